"""Regular grids: no idea of objects at all. The baseline that proposals must beat (compare DetCon, figure 7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.correspondence.proposals import Propose
from stages.correspondence.proposals.ranking import ranked


def make(*, cells: Sequence[int]) -> Propose:
    """For each n of `cells`, the photo cut into n x n boxes, row by row; the coarsest grid first.

    Cells of one grid differ by a pixel at most in width and in height. The score is 1 / n^2, the share of the photo.
    """

    def propose(photo: np.ndarray, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = photo.shape[:2]
        grids = [_grid(n, width, height) for n in cells]
        scores = [np.full(len(grid), 1 / n**2) for n, grid in zip(cells, grids, strict=True)]
        return ranked(np.concatenate(grids), np.concatenate(scores))

    return propose


def _grid(n: int, width: int, height: int) -> np.ndarray:
    """(n^2, 4) int64; empty cells among them where the photo has fewer pixels."""
    x, y = np.arange(n + 1) * width // n, np.arange(n + 1) * height // n
    row, column = np.divmod(np.arange(n * n), n)
    return np.stack([x[column], y[row], x[column + 1], y[row + 1]], axis=1)
