"""The nearest other photos of each photo, and near-duplicates among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stages.data.rows import Rows
from stages.retrieval.exact import Finder

QUERIES = 4096  # rows that are searched for together


@dataclass(frozen=True)
class Found:
    """The neighbours of consecutive rows, from row `first` on.

    Attributes:
        numbers: (B, k) int64. similarity: (B, k) float32, descending, at most 1 but for rounding of the rows.
        duplicate_images, duplicates, duplicate_similarity: (n,) each; the near-duplicates that were passed over: those
            among the k nearest rows of a row.
    """

    first: int
    numbers: np.ndarray
    similarity: np.ndarray
    duplicate_images: np.ndarray
    duplicates: np.ndarray
    duplicate_similarity: np.ndarray


def nearest_neighbors(rows: Rows, k: int, find: Finder, max_similarity: float | None = None) -> Iterator[Found]:
    """The `k` nearest other rows of each row: largest dot product first, equal ones by row number.

    A row is kept out of its own neighbours by its number, so an exact duplicate of it stays in, unless it is more
    similar than `max_similarity`; then the next ones move up.

    Args:
        rows: (N, D) float16, L2-normalised, N > k.

    Raises:
        ValueError: with `max_similarity`, fewer than k rows are left.
    """
    for first in range(0, len(rows), QUERIES):
        queries = rows.block(first, min(first + QUERIES, len(rows)))
        own = np.arange(first, first + len(queries))
        similarity, numbers = find(queries, own, k)
        near = np.zeros_like(numbers, bool) if max_similarity is None else similarity > max_similarity
        passed = np.repeat(own, near.sum(axis=1)), numbers[near], similarity[near].astype(np.float32)
        again = near.any(axis=1)
        if again.any():
            similarity[again], numbers[again] = find(queries[again], own[again], k, max_similarity)
        if (numbers[:, -1] < 0).any():
            image = int((numbers[:, -1] < 0).argmax())
            raise ValueError(
                f"photo {first + image} has only {int((numbers[image] >= 0).sum())} neighbours of the {k} that "
                f"retrieval.neighbors asks for: all others are more similar than retrieval.max_similarity="
                f"{max_similarity} and count as near-duplicates. Raise max_similarity, or lower neighbors."
            )
        yield Found(first, numbers, similarity.astype(np.float32), *passed)
