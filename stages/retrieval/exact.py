"""Exact nearest neighbours by dot product, ties decided by the row number.

A shortlist made of rough similarities is ranked by exact ones (see `stages.learning.similarity`). The known error of
the rough ones says whether that settles who belongs to the first K. Where it does not (rows that are nearly equal) a
longer list from more exact numbers follows, and at last all rows are compared exactly. So the result is a function of
the stored file: FAISS, PyTorch, a GPU or a plain loop over it name the same neighbours.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numba import njit

from stages.data.rows import Rows
from stages.learning.similarity import exact_similarity, rough_dtype, widen_row, widened
from stages.retrieval.shortlists import Bf16Search, DeviceSearch, Float32Search, Search, Shortlists

_MARGINS = 96, 512  # rows beyond K on the shortlist, and on the longer one
_CHUNK = 256  # queries that are settled together
_LONG = 1024  # queries whose longer lists are made together
_BRUTE_QUERIES, _BRUTE_ROWS = 256, 1024


class Finder(Protocol):
    def __call__(
        self, queries: np.ndarray, own: np.ndarray, k: int, at_most: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows of each query: most similar first, equal ones by number, never the query's own row.

        Args:
            queries: (B, D) float16. own: (B,) their row numbers.
            at_most: leaves out rows that are more similar than this.

        Returns:
            (B, k) similarities float64, and (B, k) row numbers int64; -inf and -1 where there are fewer than k.
        """
        ...


class ExactFinder:
    """The k nearest of all rows."""

    def __init__(self, rows: Rows, k: int, devices: list[torch.device]) -> None:
        """devices: ["cpu"], or GPUs, which share the rows."""
        self._rows = rows
        short, long = (k + 1 + margin for margin in _MARGINS)  # the row itself is on it, too
        self._searches: list[Search]
        if devices == [torch.device("cpu")]:
            first = Bf16Search if rough_dtype(devices[0]) == torch.bfloat16 else Float32Search
            self._searches = [first(rows, short), Float32Search(rows, long)]
        else:
            self._searches = [DeviceSearch(rows, width, devices) for width in (short, long)]

    def __call__(
        self, queries: np.ndarray, own: np.ndarray, k: int, at_most: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        similarity, found = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
        left = np.arange(len(queries))
        for search, together in zip(self._searches, (len(queries), _LONG), strict=True):
            open_ones = []
            for first in range(0, len(left), together):
                part = left[first : first + together]
                similarity[part], found[part], least_sure = rank(
                    search(queries[part]), queries[part], own[part], self._rows, k, at_most
                )
                open_ones.append(part[similarity[part, -1] <= least_sure])
            left = np.concatenate(open_ones)
            if not len(left):
                return similarity, found
        similarity[left], found[left] = _compare_all(queries[left], own[left], self._rows, k, at_most)
        return similarity, found


def rank(
    lists: Shortlists, queries: np.ndarray, own: np.ndarray, rows: Rows, k: int, at_most: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first k of each shortlist by exact similarity, as a Finder returns them, and (B,) float64: what is more
    similar than this is on the list for sure. -inf where all rows are on it."""
    threads = torch.get_num_threads()
    similarity, found = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    least_sure = lists.scores.min(axis=1) + lists.shifts + lists.errors
    bits = rows.array.view(np.uint16).view(np.ndarray)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(queries), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            numbers, scores = lists.numbers[chunk], lists.scores[chunk]
            wanted = _wanted(scores, numbers, own[chunk], lists.shifts[chunk], lists.errors[chunk], k, at_most)
            exact = np.full(scores.shape, -np.inf)
            half = np.ascontiguousarray(queries[chunk]).view(np.uint16)
            step = -(-len(half) // threads)
            parts = [slice(at, at + step) for at in range(0, len(half), step)]
            list(pool.map(lambda part: _score(half[part], bits, numbers[part], wanted[part], exact[part]), parts))  # noqa: B023
            rows.touched(int(wanted.sum()))
            if at_most is not None:
                exact[exact > at_most] = -np.inf
            similarity[chunk], found[chunk] = _first(exact, numbers, k)
    found[np.isneginf(similarity)] = -1
    return similarity, found, least_sure


def _wanted(
    scores: np.ndarray,
    numbers: np.ndarray,
    own: np.ndarray,
    shifts: np.ndarray,
    errors: np.ndarray,
    k: int,
    at_most: float | None,
) -> np.ndarray:
    """(B, W) bool: which of the shortlist may be among the first k, by their scores."""
    others = (numbers != own[:, None]) & (numbers >= 0)
    ranked = -np.sort(np.where(others, -scores, np.inf), axis=1)
    # The k best that are not left out for sure bound what the k-th is at least.
    out = 0 if at_most is None else (ranked > (at_most - shifts - errors)[:, None]).sum(axis=1)
    place = np.minimum(out + k, scores.shape[1]) - 1
    least = np.take_along_axis(ranked, np.broadcast_to(place, len(scores))[:, None], axis=1)
    return others & (scores >= least - 2 * errors[:, None])


@njit(cache=True, nogil=True, error_model="numpy")
def _score(queries: np.ndarray, bits: np.ndarray, numbers: np.ndarray, wanted: np.ndarray, exact: np.ndarray) -> None:
    """Fills in `exact` (B, W) where `wanted` (B, W). queries: (B, D) uint16; bits: (N, D) uint16."""
    query = np.empty(queries.shape[1], np.float32)
    for row in range(len(queries)):
        widen_row(queries[row], query)
        for at in range(numbers.shape[1]):
            if wanted[row, at]:
                exact[row, at] = exact_similarity(query, bits[numbers[row, at]])


def _first(similarity: np.ndarray, numbers: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k columns of each row by similarity descending, then number; -inf and -1 where there are fewer."""
    missing = ((0, 0), (0, max(0, k - similarity.shape[1])))
    similarity = np.pad(similarity, missing, constant_values=-np.inf)
    numbers = np.pad(numbers, missing, constant_values=-1)
    order = np.lexsort((numbers, -similarity), axis=1)[:, :k]
    return np.take_along_axis(similarity, order, axis=1), np.take_along_axis(numbers, order, axis=1)


def _compare_all(
    queries: np.ndarray, own: np.ndarray, rows: Rows, k: int, at_most: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """What a Finder returns, from all products in float64."""
    similarity, found = np.full((len(queries), k), -np.inf), np.full((len(queries), k), -1, np.int64)
    for start in range(0, len(queries), _BRUTE_QUERIES):
        part = slice(start, start + _BRUTE_QUERIES)
        exact = widened(np.ascontiguousarray(queries[part])).double()
        best, numbers = similarity[part], found[part]
        for first in range(0, len(rows), _BRUTE_ROWS):
            base = widened(rows.block(first, min(first + _BRUTE_ROWS, len(rows)))).double()
            block = (exact @ base.T).numpy()
            mine = own[part] - first
            inside = np.flatnonzero((mine >= 0) & (mine < len(base)))
            block[inside, mine[inside]] = -np.inf
            if at_most is not None:
                block[block > at_most] = -np.inf
            # The rows before this block have smaller numbers, so that of equal ones they stay.
            for query in np.flatnonzero((block > best[:, -1:]).any(axis=1)):
                better = np.flatnonzero(block[query] > best[query, -1])
                merged = np.concatenate([best[query], block[query, better]])
                names = np.concatenate([numbers[query], first + better])
                order = np.lexsort((names, -merged))[:k]
                best[query], numbers[query] = merged[order], names[order]
    return similarity, found
