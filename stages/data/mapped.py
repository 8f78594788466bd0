"""Arrays in files, read by need."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np


class Mapped:
    """A .npy file, memory-mapped. Pickles as its path: a worker process maps the same pages and gets no copy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def array(self) -> np.ndarray:
        """The rows, read-only.

        Raises:
            ValueError: the file is no .npy file, or shorter than its header says.
        """
        try:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{self.path} is damaged ({error}): make that step again with --force.") from error

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return len(self.array)
