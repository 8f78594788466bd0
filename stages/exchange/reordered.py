"""Rows that come in the order of a file and go in the order of the catalog, through the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import numpy as np

from stages.data.mapped import Mapped
from stages.data.npy_file import NpyWriter

_BLOCK = 4096  # photos


class Reordered(AbstractContextManager):
    """Some rows of `width` int32 for each photo, kept in the file `path`. In memory there are 16 bytes a photo.

    Attributes:
        places: how many were appended.
    """

    def __init__(self, path: Path, width: int, numbers: np.ndarray) -> None:
        """numbers: (N,) the photo that each place is about."""
        self._path, self._numbers = path, numbers
        self._counts = np.zeros(len(numbers), np.int64)
        self.places = 0
        self._file = NpyWriter(path, np.int32, (width,))

    def append(self, rows: np.ndarray) -> None:
        """(n, width) int, the rows of the next place."""
        self._counts[self.places] = len(rows)
        self.places += 1
        self._file.append(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """After the `with` block: for some thousands of photos at a time, in the order of the catalog, (k,) int64
        numbers of rows and the (n, width) int32 rows."""
        rows = Mapped(self._path).array
        starts = np.cumsum(self._counts) - self._counts
        places = np.argsort(self._numbers)
        for first in range(0, len(places), _BLOCK):
            some = places[first : first + _BLOCK]
            counts = self._counts[some]
            ends = np.cumsum(counts)
            within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
            yield counts, rows[np.repeat(starts[some], counts) + within]
