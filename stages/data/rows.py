"""Rows of a .npy file that is larger than memory."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from stages.data.mapped import Mapped

# What is read brings its neighbourhood into memory with it: 64 kB (the kernel's fault_around_bytes), or all of a large
# page of the page cache. At most this much, as measured on ext4.
_AROUND = 2**20


class Rows(Mapped):
    """A (N, D) array in a file, memory-mapped, of which only so much stays mapped.

    Mapped pages that were touched count as memory of the process until they are let go of, so that without it memory
    would grow with the file. What was read stays valid: the kernel brings it back.
    """

    def __init__(self, path: Path, most_mapped: int = 2**29) -> None:
        """most_mapped: bytes. Letting go costs reading anew, from the page cache, what is needed again."""
        super().__init__(path)
        self._most, self._mapped = most_mapped, 0

    def block(self, first: int, last: int) -> np.ndarray:
        """Rows `first` .. `last` - 1, read-only and not copied."""
        rows = self.array[first:last]
        self._count(rows.nbytes + _AROUND)
        return rows

    def touched(self, count: int) -> None:
        """`count` rows were read through `array`, in any order. Call it from one thread."""
        self._count(count * (_AROUND + self.array.strides[0]))

    def _count(self, size: int) -> None:
        if self._mapped + size > self._most and self.array.nbytes > self._most:
            forget(self.array)
            self._mapped = 0
        self._mapped += size

    def __getstate__(self) -> tuple[Path, int]:  # type: ignore[override]
        return self.path, self._most

    def __setstate__(self, state: tuple[Path, int]) -> None:  # type: ignore[override]
        self.__init__(*state)  # type: ignore[misc]


def forget(array: np.ndarray) -> None:
    """Lets go of the pages of a mapped array that were read so far. It stays valid."""
    if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)
