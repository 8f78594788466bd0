"""Rows of several .npy files that are made together, and survive a kill."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np

_SECONDS_BETWEEN_CHECKPOINTS = 20.0


class GrowingFiles:
    """A .npy file a depth, of known length, filled from front to back; `rows` are filled in each. Use it with `with`.

    Rows are safe after a checkpoint, which notes their number in `progress`; a later run goes on there.
    """

    def __init__(self, out: Path, progress: Path, dims: dict[str, int], photos: int) -> None:
        self._progress, self._dims, self._photos = progress, dims, photos
        self._paths = {depth: out / f"{depth}.npy" for depth in dims}
        self.rows = self._rows_left()
        if not self.rows:
            for depth, path in self._paths.items():
                np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(photos, dims[depth]))
        self._files: dict[str, BinaryIO] = {}
        self._saved = time.monotonic()

    def __enter__(self) -> GrowingFiles:
        # Written, not mapped: mapped pages of a large file would count as this process's memory.
        for depth, path in self._paths.items():
            self._files[depth] = path.open("r+b")
            row = 4 * self._dims[depth]
            self._files[depth].seek(path.stat().st_size - (self._photos - self.rows) * row)
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, features: dict[str, np.ndarray]) -> None:
        """The next rows of each depth, (n, D) float32."""
        for depth, file in self._files.items():
            file.write(np.ascontiguousarray(features[depth], np.float32).data)
        self.rows += len(next(iter(features.values())))
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS or self.rows == self._photos:
            self._checkpoint()

    def _checkpoint(self) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        partial = self._progress.with_suffix(".partial")
        partial.write_text(json.dumps({"rows": self.rows}))
        os.replace(partial, self._progress)
        self._saved = time.monotonic()

    def _rows_left(self) -> int:
        """Rows that a former run has left in all files; 0 if one of them is not what it should be."""
        try:
            rows = int(json.loads(self._progress.read_text())["rows"])
            arrays = {depth: np.load(path, mmap_mode="r", allow_pickle=False) for depth, path in self._paths.items()}
        except (OSError, ValueError, KeyError):
            return 0
        fitting = all(
            array.shape == (self._photos, self._dims[depth]) and array.dtype == np.float32
            for depth, array in arrays.items()
        )
        return rows if fitting and 0 <= rows <= self._photos else 0
