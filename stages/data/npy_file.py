"""A .npy file of unknown length, written from front to back, never held in memory."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType

import numpy as np


class NpyWriter:
    """Appends rows to an array in `path`. The header learns their number at the end of the `with` block.

    Until then `np.load` finds no row, so that what an interruption leaves behind is not taken for the whole.
    """

    def __init__(self, path: Path, dtype: type[np.generic], row_shape: tuple[int, ...] = ()) -> None:
        """An existing file is overwritten. row_shape: of one row, () for plain numbers."""
        self.rows = 0
        self._dtype, self._row_shape = np.dtype(dtype), row_shape
        self._file = path.open("wb")
        self._file.write(self._header())

    def append(self, rows: np.ndarray) -> None:
        """rows: (n, *row_shape), cast to the file's dtype.

        Raises:
            ValueError: the rows are of another shape, which would shift all that follow.
        """
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"rows of shape {rows.shape[1:]} do not fit a file with rows of {self._row_shape}")
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.rows += len(rows)

    def _header(self) -> bytes:
        """Of one length for any number of rows: NumPy leaves room for the first axis to grow."""
        header = io.BytesIO()
        layout = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(header, layout | {"shape": (self.rows, *self._row_shape)})
        return header.getvalue()

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._file.write(self._header())
