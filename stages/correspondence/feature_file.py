"""A .npy file that is written from front to back, survives an interruption, and never stays in memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from types import TracebackType

import numpy as np


class FeatureFile:
    """A (rows, channels) float16 array in `path`, readable by `np.load` once all rows are appended.

    `progress` is a small JSON file that says how many rows are safely on the disk. Opening both again goes on after
    those; anything else in `path` is overwritten. Appended to rather than mapped: the pages of a mapped file of many
    gigabytes would count as this process's memory.
    """

    def __init__(self, path: Path, progress: Path, rows: int, channels: int) -> None:
        header = io.BytesIO()
        layout = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(header, layout | {"shape": (rows, channels)})
        self._header, self._progress, self._channels, self.rows = header.getvalue(), progress, channels, rows
        self.done = self._safe_rows(path)
        self._file = path.open("r+b" if self.done else "wb")
        if not self.done:
            self._file.write(self._header)
        self._file.truncate(self._end())
        self._file.seek(self._end())

    def _end(self) -> int:
        return len(self._header) + self.done * self._channels * 2

    def _safe_rows(self, path: Path) -> int:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self.done = int(json.loads(self._progress.read_text())["rows"])
            with path.open("rb") as file:
                same = file.read(len(self._header)) == self._header
            if same and 0 <= self.done <= self.rows and path.stat().st_size >= self._end():
                return self.done
        return 0

    def append(self, features: np.ndarray) -> None:
        """features: (n, channels) float16."""
        self._file.write(np.ascontiguousarray(features, dtype=np.float16).data)
        self.done += len(features)

    def checkpoint(self) -> None:
        """What was appended so far is kept whatever happens next."""
        self._file.flush()
        os.fsync(self._file.fileno())
        partial = self._progress.with_suffix(".partial")
        partial.write_text(json.dumps({"rows": self.done}))
        os.replace(partial, self._progress)

    def __enter__(self) -> FeatureFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
