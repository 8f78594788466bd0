"""The tables of step `retrieval`, written as the neighbours come."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NEIGHBORS_FILE = "neighbors.parquet"
DUPLICATES_FILE = "duplicates.parquet"

_SCHEMA = pa.schema(
    [("image", pa.int32()), ("rank", pa.int16()), ("neighbor", pa.int32()), ("similarity", pa.float32())]
)
_DUPLICATES_SCHEMA = pa.schema([("image", pa.int32()), ("neighbor", pa.int32()), ("similarity", pa.float32())])


class NeighborsWriter:
    """`neighbors.parquet`: image int32, rank int16 from 0, neighbor int32, similarity float32; sorted by image and
    rank, as many neighbours for each image."""

    def __init__(self, directory: Path) -> None:
        self._images = 0
        self._table = pq.ParquetWriter(directory / NEIGHBORS_FILE, _SCHEMA)

    def append(self, numbers: np.ndarray, similarity: np.ndarray) -> None:
        """The neighbours of the next photos. numbers: (n, K) int. similarity: (n, K) float."""
        count, neighbors = numbers.shape
        images = np.arange(self._images, self._images + count)
        columns = [np.repeat(images, neighbors), np.tile(np.arange(neighbors), count)]
        self._table.write_table(_table([*columns, numbers.ravel(), similarity.ravel()], _SCHEMA))
        self._images += count

    def __enter__(self) -> NeighborsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()


class DuplicatesWriter:
    """`duplicates.parquet`: image int32, neighbor int32, similarity float32; the near-duplicates that were passed over,
    sorted by image, then from the most similar on. No file where near-duplicates are neighbours like others.

    Attributes:
        pairs: rows of the table. images: photos that are in them.
    """

    def __init__(self, directory: Path, wanted: bool) -> None:
        self.pairs = self.images = 0
        with ExitStack() as files:
            path = directory / DUPLICATES_FILE
            self._table = files.enter_context(pq.ParquetWriter(path, _DUPLICATES_SCHEMA)) if wanted else None
            self._files = files.pop_all()

    def append(self, images: np.ndarray, neighbors: np.ndarray, similarity: np.ndarray) -> None:
        """(n,) each."""
        if self._table is not None:
            self._table.write_table(_table([images, neighbors, similarity], _DUPLICATES_SCHEMA))
        self.pairs += len(images)
        self.images += len(np.unique(images))

    def __enter__(self) -> DuplicatesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)


def _table(columns: list[np.ndarray], schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.array(column.astype(kind.to_pandas_dtype())) for column, kind in zip(columns, schema.types, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
