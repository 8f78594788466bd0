"""A .npy file whose rows are written in any order, by any number of processes, and never stay in memory."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import TracebackType

import numpy as np

_HALF = np.dtype("<f2")


class FeatureFile:
    """A (rows, channels) float16 array in `path`, for writing. `np.load` reads it once all rows are there.

    Written rather than mapped: the pages of a mapped file of many gigabytes would count as this process's memory, and a
    full disk would kill the process where it now gets an OSError.

    Attributes:
        kept: whether the file was there before, with the rows that were written then.
    """

    def __init__(self, path: Path, rows: int, channels: int) -> None:
        """Opens the file; makes it, full of zeros, where `path` is not already such a file of this shape."""
        buffer = io.BytesIO()
        layout = {"descr": np.lib.format.dtype_to_descr(_HALF), "fortran_order": False, "shape": (rows, channels)}
        np.lib.format.write_array_header_1_0(buffer, layout)
        header = buffer.getvalue()
        self._start, self._rows, self._channels = len(header), rows, channels
        size = len(header) + rows * channels * _HALF.itemsize
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self.kept = os.fstat(self._file).st_size == size and os.pread(self._file, len(header), 0) == header
        if not self.kept:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, header, 0)
            os.ftruncate(self._file, size)

    def write(self, first: int, features: np.ndarray) -> None:
        """Rows `first` on. features: (n, channels) float16.

        Raises:
            ValueError: they do not fit the file.
            OSError: the disk is full.
        """
        if features.shape[1:] != (self._channels,) or not 0 <= first <= self._rows - len(features):
            raise ValueError(
                f"features of shape {features.shape} do not fit a file of {self._rows} rows of {self._channels} from "
                f"row {first} on: boxes or encoder changed while the step ran. Run it again."
            )
        data = np.ascontiguousarray(features, _HALF).data.cast("B")
        position = self._start + first * self._channels * _HALF.itemsize
        while data:  # one call writes 2 GB at most
            written = os.pwrite(self._file, data, position)
            data, position = data[written:], position + written

    def sync(self) -> None:
        """What was written so far is kept whatever happens next."""
        os.fsync(self._file)

    def __enter__(self) -> FeatureFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
