"""The pairs of all photos on disk: written in one pass, for people and for programs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.data.boxes import Boxes
from stages.data.npy_file import NpyWriter

PAIRS_FILE = "pairs.parquet"
NEIGHBORS_FILE = "pair_neighbors.npy"
STARTS_FILE = "pair_starts.npy"
ROIS_FILE = "pair_rois.npy"

_CORNERS = ("x0", "y0", "x1", "y1")
_SCHEMA = pa.schema(
    [("image", pa.int32()), ("neighbor", pa.int32()), ("rank", pa.int16()), ("pair", pa.int16())]
    + [("roi", pa.int16()), ("neighbor_roi", pa.int16()), ("similarity", pa.float32())]
    + [(name, pa.int32()) for name in [*_CORNERS, *(f"neighbor_{corner}" for corner in _CORNERS)]]
)
_ROW_GROUP = 2**16


class PairsWriter:
    """Writes the pairs of step `correspondence`, whose photos come in order; memory does not grow with their number.

    `pairs.parquet`, which `pandas.read_parquet` opens: image, neighbor int32, rank of the neighbour and pair within it
    int16 from 0, roi, neighbor_roi int16, similarity float32, and both boxes int32 (x0 .. y1, neighbor_x0 ..
    neighbor_y1); sorted by image, rank and pair.

    For programs, memory-mapped: `pair_neighbors.npy` (N, K) int32; `pair_rois.npy` (pairs, 2) int16, both boxes of each
    pair; `pair_starts.npy` (N K + 1,) int64. The pairs of photo i with its neighbour of rank r are rows
    pair_starts[i K + r] .. pair_starts[i K + r + 1] - 1, none where the rule left none.
    """

    def __init__(self, directory: Path, boxes: Boxes, neighbors: int) -> None:
        """boxes: of the photos. neighbors: K."""
        self._boxes, self._neighbors = boxes, neighbors
        self._images = 0
        self._waiting: list[pa.Table] = []
        with ExitStack() as files:
            self._table = files.enter_context(pq.ParquetWriter(directory / PAIRS_FILE, _SCHEMA))
            self._numbers = files.enter_context(NpyWriter(directory / NEIGHBORS_FILE, np.int32, (neighbors,)))
            self._rois = files.enter_context(NpyWriter(directory / ROIS_FILE, np.int16, (2,)))
            self._starts = files.enter_context(NpyWriter(directory / STARTS_FILE, np.int64))
            self._files = files.pop_all()
        self._starts.append(np.zeros(1))

    def append(self, neighbors: np.ndarray, counts: np.ndarray, rois: np.ndarray, similarity: np.ndarray) -> None:
        """The pairs of the next photos.

        Args:
            neighbors: (n, K) int, photo numbers, nearest first.
            counts: (n, K) int, pairs with each.
            rois: (m, 2) int, m the sum of `counts`: numbers of the photo's box and of the neighbour's, best pair first.
            similarity: (m,) float.
        """
        ends = np.cumsum(counts)
        group = np.repeat(np.arange(counts.size), counts.ravel())  # photo and rank
        images, other = self._images + group // self._neighbors, neighbors.ravel()[group]
        columns = [images, other, group % self._neighbors, np.arange(len(group)) - (ends - counts.ravel())[group]]
        columns += [*rois.T, similarity]
        for photos, numbers in zip((images, other), rois.T, strict=True):
            columns += [*self._boxes.corners[self._boxes.starts[photos] + numbers].T]
        arrays = [
            pa.array(column.astype(kind.to_pandas_dtype())) for column, kind in zip(columns, _SCHEMA.types, strict=True)
        ]
        self._waiting.append(pa.Table.from_arrays(arrays, schema=_SCHEMA))
        self._starts.append(self._rois.rows + ends)
        self._rois.append(rois)
        self._numbers.append(neighbors)
        self._images += len(neighbors)
        if sum(map(len, self._waiting)) >= _ROW_GROUP:
            self._write_table()

    def _write_table(self) -> None:
        if self._waiting:
            self._table.write_table(pa.concat_tables(self._waiting))
            self._waiting.clear()

    def __enter__(self) -> PairsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write_table()
        finally:
            self._files.__exit__(kind, error, trace)
