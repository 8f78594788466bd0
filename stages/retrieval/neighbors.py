"""Exact nearest neighbours by dot product, in blocks, with ties decided by the image number.

Stored rows are float16. The product of two such numbers is a multiple of 2^-48, so a float64 sum over a row of length
1 is exact whatever the order of its terms. Similarities are therefore *exact* functions of the stored file: FAISS,
PyTorch, a GPU or a plain loop over `embeddings.npy` all name the same neighbours.

A fast float32 search names a shortlist with a margin. It is ranked again by exact similarities, and in the rare case
that the margin does not settle who belongs to the first K (many equal photos) the row is searched exactly.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import torch

_QUERIES = 1024
_BASE = 16384
_MARGIN = 8
# More than a float32 dot product of two unit rows can err (D * 2^-24 for D up to 4096 is 2.4e-4; in practice 1e-6).
_ERROR_PER_ENTRY = 2.0**-24


def nearest_neighbors(rows: np.ndarray, k: int, device: torch.device) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The `k` nearest other rows of each row: largest dot product first, equal ones by row number.

    A row is kept out of its own neighbours by its number, so an exact duplicate of it stays in.

    Args:
        rows: (N, D) float16, L2-normalised, N > k. A memory map will do: it is read in blocks.
        device: the first search runs in FAISS for a CPU, in PyTorch for a GPU or where FAISS is not installed.

    Yields:
        For each block of consecutive queries: the first query's number, (B, k) int64 row numbers and (B, k) float32
        similarities, at most 1 but for rounding of the rows.
    """
    width = min(len(rows), k + 1 + _MARGIN)  # the row itself is in it, too
    margin = rows.shape[1] * _ERROR_PER_ENTRY
    for first in range(0, len(rows), _QUERIES):
        queries = np.asarray(rows[first : first + _QUERIES])
        numbers = np.arange(first, first + len(queries))
        rough, shortlist = _search(queries, rows, width, device)
        exact = np.einsum("qd,qmd->qm", queries.astype(np.float64), _gather(rows, shortlist))
        exact[shortlist == numbers[:, None]] = -np.inf
        similarity, found = _first(exact, shortlist, k)
        if width < len(rows):
            # Whatever is not on the shortlist is at most as similar as its last entry, give or take the error.
            unsettled = np.flatnonzero(rough[:, -1] + 2 * margin >= similarity[:, -1])
            if len(unsettled):
                at_least = similarity[unsettled, -1]
                similarity[unsettled], found[unsettled] = _search_exactly(
                    queries[unsettled], numbers[unsettled], rows, k, at_least
                )
        yield first, found, similarity.astype(np.float32)


def _gather(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return rows[numbers.ravel()].reshape(*numbers.shape, -1).astype(np.float64)


def _first(similarity: np.ndarray, numbers: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k columns of each row by similarity descending, then number."""
    order = np.lexsort((numbers, -similarity), axis=1)[:, :k]
    return np.take_along_axis(similarity, order, axis=1), np.take_along_axis(numbers, order, axis=1)


def _search(queries: np.ndarray, rows: np.ndarray, width: int, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """The `width` nearest rows of each query in float32, (B, width) similarities descending and row numbers."""
    search = _search_faiss if device.type == "cpu" and importlib.util.find_spec("faiss") else _search_torch
    best = np.empty((len(queries), 0), np.float32)
    numbers = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(rows), _BASE):
        base = np.asarray(rows[start : start + _BASE])
        similarity, found = search(queries, base, min(width, len(base)), device)
        best, numbers = np.hstack([best, similarity]), np.hstack([numbers, found + start])
        best, numbers = _first(best, numbers, width)
    return best, numbers


def _search_faiss(queries: np.ndarray, base: np.ndarray, k: int, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    import faiss

    return faiss.knn(_single(queries).numpy(), _single(base).numpy(), k, metric=faiss.METRIC_INNER_PRODUCT)


def _search_torch(queries: np.ndarray, base: np.ndarray, k: int, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    similarity, found = (_single(queries).to(device) @ _single(base).to(device).T).topk(k, dim=1)
    return similarity.cpu().numpy(), found.cpu().numpy()


def _single(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(rows)).float()  # PyTorch widens float16 several times faster than NumPy


def _search_exactly(
    queries: np.ndarray, numbers: np.ndarray, rows: np.ndarray, k: int, at_least: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of each query in float64 against all rows, where k are known to be `at_least` (B,) as similar.

    Args:
        numbers: (B,) the queries' own row numbers, which are left out.
    """
    exact_queries = queries.astype(np.float64)
    query, number, similarity = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    for start in range(0, len(rows), _BASE):
        block = exact_queries @ np.asarray(rows[start : start + _BASE], dtype=np.float64).T
        candidate, column = np.nonzero(block >= at_least[:, None])
        other = column + start != numbers[candidate]
        candidate, column = candidate[other], column[other]
        query = np.concatenate([query, candidate])
        number = np.concatenate([number, column + start])
        similarity = np.concatenate([similarity, block[candidate, column]])
        order = np.lexsort((number, -similarity, query))
        rank = np.arange(len(order)) - np.searchsorted(query[order], query[order])
        kept = order[rank < k]
        query, number, similarity = query[kept], number[kept], similarity[kept]
    return similarity.reshape(-1, k), number.reshape(-1, k)
