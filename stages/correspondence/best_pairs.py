"""Which boxes of two photos belong together, by the cosine similarity of their features.

The result is a function of the stored features alone (see `stages.learning.similarity`): all similarities are found
roughly, those that may matter exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numba import njit

from stages.learning.similarity import as_rough, exact_similarity, keep_largest, rough_dtype, rough_error, widened

# A product of float64 matrices is faster than more exact similarities than this share of a matrix, one after another.
_MANY = 0.1


Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Rule:
    """Which entries of a similarity matrix (a row for each box of the photo, a column for each of its neighbour's) are
    pairs.

    Attributes:
        fraction, fraction_of: the most similar ones, as many as `fraction` of the photo's boxes, at least one. So does
            ORL's official code: 10 pairs of a 100 x 100 matrix at 0.1. Or of the matrix, 1,000 pairs, to which the
            paper's "top N pairs" may be read.
        mutual: only those that are the largest of both their row and their column.
        unique: greedily one after another, leaving out the row and the column of each that is taken.
        min_similarity: none below this.
    """

    fraction: float
    fraction_of: Literal["query_boxes", "matrix"] = "query_boxes"
    mutual: bool = False
    unique: bool = False
    min_similarity: float | None = None

    def count(self, boxes: int, others: int) -> int:
        """Pairs of a photo with `boxes` boxes and a neighbour with `others`, before `min_similarity`."""
        whole = boxes if self.fraction_of == "query_boxes" else boxes * others
        return min(max(1, int(self.fraction * whole)), boxes * others)


class Matcher:
    """Pairs the boxes of one photo with those of its neighbours."""

    def __init__(self, rule: Rule, device: torch.device, lost: float) -> None:
        """device: for the rough similarities. lost: the largest `lost_to_rounding` of all features, see there."""
        self._rule, self._device, self._lost = rule, device, lost
        self._dtype = rough_dtype(device)

    def __call__(self, query: np.ndarray, others: list[np.ndarray]) -> tuple[list[Pairs], bool]:
        """
        Args:
            query: (B, C) float16, L2-normalised. others: (B', C) for each neighbour.

        Returns:
            For each neighbour its pairs, (n, 2) int64 boxes of both and (n,) float64 similarities, most similar first,
            equal ones by row, then column. And whether `min_similarity` would have left the photo without any pair, so
            that its single best one was kept.
        """
        found = self._most_similar(query, others)
        least = self._rule.min_similarity
        if least is None:
            return found, False
        kept = [(pairs[similarity >= least], similarity[similarity >= least]) for pairs, similarity in found]
        if any(len(pairs) for pairs, _ in kept):
            return kept, False
        best = int(np.argmax([similarity[0] for _, similarity in found]))
        kept[best] = found[best][0][:1], found[best][1][:1]
        return kept, True

    def _most_similar(self, query: np.ndarray, others: list[np.ndarray]) -> list[Pairs]:
        # One product: many small ones would take twice as long.
        left, right = (as_rough(parts, self._dtype).to(self._device) for parts in ([query], others))
        products = (right @ left.T).float().cpu()
        error = rough_error(self._dtype, query.shape[1], 2 * self._lost, float(products.abs().max()))
        wide, rough = widened(query).numpy(), products.numpy()
        found, first = [], 0
        for other in others:
            part = rough[first : first + len(other)]
            first += len(other)
            count = self._rule.count(len(query), len(other))
            settings = count, self._rule.mutual, self._rule.unique
            limit = max(4 * count, int(_MANY * part.size))
            pairs = best_pairs(part, error, wide, other.view(np.uint16), *settings, limit)
            if not len(pairs[0]):
                exact = (widened(other).double() @ torch.from_numpy(wide).double().T).numpy()
                pairs = best_pairs(exact, 0.0, wide, other.view(np.uint16), *settings, exact.size)
            found.append(pairs)
        return found


@njit(cache=True, nogil=True, error_model="numpy")
def best_pairs(
    products: np.ndarray,
    error: float,
    query: np.ndarray,
    bits: np.ndarray,
    count: int,
    mutual: bool,
    unique: bool,
    limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs that a Rule names, without `min_similarity`.

    Args:
        products: (B', B) float32 similarities, each within `error` of the exact one; or these, float64, and error 0.
        query: (B, C) float32. bits: (B', C) uint16 of float16. Rows of length 1.
        limit: gives up where more exact similarities than this are needed.

    Returns:
        (n, 2) int64 rows of `query` and of `bits`, and their (n,) float64 similarities; none where it gave up.
    """
    rough = products.T.copy()
    size, most, columns = rough.size, min(rough.shape), rough.shape[1]
    wanted = 4 * count if unique else count
    while True:
        least = -np.inf if wanted >= size else _largest(rough, wanted) - 2 * error
        needed = _may_be_mutual(rough, error) if mutual else rough >= least
        places = np.flatnonzero(needed.ravel())
        if len(places) > limit:
            return np.empty((0, 2), np.int64), np.empty(0)
        exact = _exact(rough, error, query, bits, places)
        order = np.argsort(-exact, kind="mergesort")  # stable
        places, exact = places[order], exact[order]
        if mutual:
            chosen = _mutual(places, rough.shape)[:count]
        elif unique:
            chosen = _one_to_one(places, rough.shape, count)
        else:
            chosen = np.arange(count)
        # Of what is not needed, nothing is more similar than `least` and the error.
        if not unique or mutual or wanted >= size or (
            len(chosen) == min(count, most) and exact[chosen[-1]] > least + error
        ):  # fmt: skip
            pairs = np.empty((len(chosen), 2), np.int64)
            pairs[:, 0], pairs[:, 1] = places[chosen] // columns, places[chosen] % columns
            return pairs, exact[chosen]
        wanted *= 4


@njit(cache=True, nogil=True, error_model="numpy")
def _largest(matrix: np.ndarray, count: int) -> float:
    """The `count`-th largest entry."""
    values, numbers = np.full(count, -np.inf).astype(matrix.dtype), np.empty(count, np.int64)
    for row in range(len(matrix)):
        keep_largest(matrix[row], 0, values, numbers)
    return values[0]


@njit(cache=True, nogil=True, error_model="numpy")
def _may_be_mutual(rough: np.ndarray, error: float) -> np.ndarray:
    """Which entries may be the largest of their row, or of their column. (B, B') bool."""
    needed = np.zeros(rough.shape, np.bool_)
    for row in range(rough.shape[0]):
        needed[row] |= rough[row] >= rough[row].max() - 2 * error
    for column in range(rough.shape[1]):
        needed[:, column] |= rough[:, column] >= rough[:, column].max() - 2 * error
    return needed


@njit(cache=True, nogil=True, error_model="numpy")
def _exact(rough: np.ndarray, error: float, query: np.ndarray, bits: np.ndarray, places: np.ndarray) -> np.ndarray:
    exact = np.empty(len(places))
    for number in range(len(places)):
        row, column = divmod(places[number], rough.shape[1])
        exact[number] = rough[row, column] if error == 0 else exact_similarity(query[row], bits[column])
    return exact


@njit(cache=True, nogil=True, error_model="numpy")
def _mutual(places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Which of `places`, the most similar first, are the first of both their row and their column."""
    row_seen, column_seen = np.zeros(shape[0], np.bool_), np.zeros(shape[1], np.bool_)
    chosen = [0 for _ in range(0)]
    for number in range(len(places)):
        row, column = divmod(places[number], shape[1])
        if not row_seen[row] and not column_seen[column]:
            chosen.append(number)
        row_seen[row] = column_seen[column] = True
    return np.array(chosen, dtype=np.int64)


@njit(cache=True, nogil=True, error_model="numpy")
def _one_to_one(places: np.ndarray, shape: tuple[int, int], count: int) -> np.ndarray:
    """The first `count` of `places` of which none shares its row or its column with one before it that was taken."""
    row_taken, column_taken = np.zeros(shape[0], np.bool_), np.zeros(shape[1], np.bool_)
    chosen = [0 for _ in range(0)]
    for number in range(len(places)):
        row, column = divmod(places[number], shape[1])
        if not row_taken[row] and not column_taken[column]:
            chosen.append(number)
            row_taken[row] = column_taken[column] = True
            if len(chosen) == count:
                break
    return np.array(chosen, dtype=np.int64)
