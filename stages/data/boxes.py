"""The boxes of all photos on disk: written in one pass, read by photo."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.data.mapped import Mapped
from stages.data.npy_file import NpyWriter

BOXES_FILE = "boxes.parquet"
CORNERS_FILE = "corners.npy"
STARTS_FILE = "starts.npy"

_SCHEMA = pa.schema(
    [("image", pa.int32()), ("roi", pa.int16())]
    + [(side, pa.int32()) for side in ("x0", "y0", "x1", "y1")]
    + [("score", pa.float32())]
)
_ROW_GROUP = 2**17
# Of a photo: `roi` is an int16.
MOST_BOXES = 2**15 - 1


class Boxes:
    """The boxes in the folder of step `regions`, memory-mapped. Pickles as its path, so that workers share the pages.

    The boxes of photo i are rows `starts[i]` .. `starts[i + 1]` - 1 of `corners`, in the order of `boxes.parquet`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._corners = Mapped(self.directory / CORNERS_FILE)
        self._starts = Mapped(self.directory / STARTS_FILE)

    @property
    def corners(self) -> np.ndarray:
        """(n, 4) int32, read-only: x0, y0, x1, y1 in pixels of the original photo, half-open."""
        return self._corners.array

    @property
    def starts(self) -> np.ndarray:
        """(N + 1,) int64, read-only: the first row of each photo, and at the end n."""
        return self._starts.array

    def __len__(self) -> int:
        """n, the boxes of all photos."""
        return len(self.corners)

    @property
    def images(self) -> int:
        """N, the photos."""
        return len(self.starts) - 1

    def of(self, image: int) -> np.ndarray:
        """The boxes of one photo, best first: (m, 4) int32, read-only, m >= 1."""
        first, last = self.starts[image : image + 2]
        return self.corners[first:last]

    def check(self, images: int) -> None:
        """Raises ValueError unless these are the boxes of `images` photos, and all of them."""
        if self.images != images:
            raise ValueError(
                f"{self.directory} holds the boxes of {self.images} photos where the catalog has {images}: they are "
                "not of one run. Run the steps catalog and regions again, in this order."
            )
        if self.starts[-1] != len(self):
            raise ValueError(
                f"{self.directory} is damaged: {STARTS_FILE} counts {self.starts[-1]} boxes, {CORNERS_FILE} holds "
                f"{len(self)}. Make the step regions again with --force."
            )


class BoxesWriter:
    """Writes the files of step `regions`: `boxes.parquet` for people, `corners.npy` and `starts.npy` for programs.

    `boxes.parquet` has the columns image (int32), roi (int16, from 0 in each photo), x0, y0, x1, y1 (int32, pixels of
    the original photo, half-open) and score (float32). Photos come in order; memory does not grow with their number.
    """

    def __init__(self, directory: Path) -> None:
        self._images = 0
        self._waiting: list[pa.Table] = []
        with ExitStack() as files:
            self._table = files.enter_context(pq.ParquetWriter(directory / BOXES_FILE, _SCHEMA))
            self._corners = files.enter_context(NpyWriter(directory / CORNERS_FILE, np.int32, (4,)))
            self._starts = files.enter_context(NpyWriter(directory / STARTS_FILE, np.int64))
            self._files = files.pop_all()
        self._starts.append(np.zeros(1))

    def append(self, counts: np.ndarray, corners: np.ndarray, scores: np.ndarray) -> None:
        """The boxes of the next photos.

        Args:
            counts: (k,) int, boxes of each of these photos, at most MOST_BOXES.
            corners: (m, 4) int, m the sum of `counts`.
            scores: (m,) float32, NaN for a photo's whole area that stands in for boxes.
        """
        ends = np.cumsum(counts)
        images = np.repeat(np.arange(self._images, self._images + len(counts)), counts)
        rois = np.arange(len(corners)) - np.repeat(ends - counts, counts)
        self._starts.append(self._corners.rows + ends)
        self._corners.append(corners)
        columns = [images, rois, *corners.T, scores]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, _SCHEMA.types, strict=True)]
        self._waiting.append(pa.Table.from_arrays(arrays, schema=_SCHEMA))
        self._images += len(counts)
        if sum(map(len, self._waiting)) >= _ROW_GROUP:
            self._write_table()

    def _write_table(self) -> None:
        if self._waiting:
            self._table.write_table(pa.concat_tables(self._waiting))
            self._waiting.clear()

    def __enter__(self) -> BoxesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write_table()
        finally:
            self._files.__exit__(kind, error, trace)
