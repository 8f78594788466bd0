"""Millions of strings in two arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

_BLOCK = 8192


class Texts:
    """Strings laid end to end: their bytes and 8 more each, where a Python string takes 50 more and a list another 8.

    Attributes:
        text: (bytes,) uint8, the UTF-8 of all strings; may be a memory map.
        starts: (n + 1,) int64; string i is text[starts[i] : starts[i + 1]].
    """

    def __init__(self, text: np.ndarray, starts: np.ndarray) -> None:
        self.text, self.starts = text, starts

    @classmethod
    def of(cls, strings: Iterable[str]) -> Texts:
        text, starts = bytearray(), array("q", [0])
        for string in strings:
            text += string.encode()
            starts.append(len(text))
        return cls(np.frombuffer(text, np.uint8), np.frombuffer(starts, np.int64))

    @classmethod
    def from_arrow(cls, strings: pa.Array | pa.ChunkedArray) -> Texts:
        """The strings of an Arrow array without nulls."""
        if isinstance(strings, pa.ChunkedArray):
            strings = strings.cast(pa.large_string()).combine_chunks()
        strings = strings.cast(pa.large_string())
        _, starts, text = strings.buffers()
        if len(strings) == 0:
            return cls.of(())
        offsets = np.frombuffer(starts, np.int64)[strings.offset : strings.offset + len(strings) + 1]
        return cls(np.frombuffer(b"" if text is None else text, np.uint8), offsets)

    def arrow(self) -> pa.LargeStringArray:
        """The same memory as an Arrow array, for sorting and searching."""
        buffers = [pa.py_buffer(np.ascontiguousarray(part)) for part in (self.starts, self.text)]
        return pa.LargeStringArray.from_buffers(len(self), *buffers)

    def part(self, first: int, last: int) -> Texts:
        """Strings first .. last - 1, without copying."""
        return Texts(self.text, self.starts[first : last + 1])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no string {index}: there are {len(self)}, counted from 0")
        return self.text[self.starts[index] : self.starts[index + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            starts = self.starts[first : first + _BLOCK + 1].tolist()
            text = self.text[starts[0] : starts[-1]].tobytes()
            for start, end in pairwise(starts):
                yield text[start - starts[0] : end - starts[0]].decode()
