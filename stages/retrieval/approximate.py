"""Approximate neighbours through FAISS, for data sets that are too large to compare every photo with every other.

What the index finds is ranked by exact similarities of the stored rows; only the choice is approximate. Its recall is
measured on a sample of photos.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from stages.data.rows import Rows
from stages.learning.similarity import widened
from stages.retrieval.exact import Finder, rank
from stages.retrieval.shortlists import Shortlists

_MARGIN = 16  # rows beyond K that the index is asked for
_WIDEST = 1024
_TRAINING_ROWS = 64  # a list; FAISS asks for 39 or more
_BUILD_SEARCH = 200  # efConstruction, as in Malkov & Yashunin, table 1
_BLOCK = 16384  # rows
_QUERIES = 1024


class Index(Protocol):
    """What is used of a FAISS index."""

    def search(self, queries: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]: ...

    def add(self, rows: np.ndarray) -> None: ...


class ApproximateFinder:
    """A `Finder` of what an index holds. Where it finds fewer than k rows that are allowed, `exact` looks at all."""

    def __init__(self, rows: Rows, index: Index, exact: Finder) -> None:
        self._rows, self._index, self._exact = rows, index, exact

    def __call__(
        self, queries: np.ndarray, own: np.ndarray, k: int, at_most: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        similarity, found = np.full((len(queries), k), -np.inf), np.full((len(queries), k), -1, np.int64)
        left, width = np.arange(len(queries)), k + 1 + _MARGIN
        while len(left) and width <= max(_WIDEST, k + 1 + _MARGIN):
            numbers = self._candidates(queries[left], width)
            zeros = np.zeros(len(left))
            lists = Shortlists(numbers, np.zeros(numbers.shape, np.float32), zeros, zeros)  # equal: all are compared
            similarity[left], found[left], _ = rank(lists, queries[left], own[left], self._rows, k, at_most)
            left = left[found[left, -1] < 0]
            width *= 4
        if len(left):
            similarity[left], found[left] = self._exact(queries[left], own[left], k, at_most)
        return similarity, found

    def _candidates(self, queries: np.ndarray, width: int) -> np.ndarray:
        parts = (queries[start : start + _QUERIES] for start in range(0, len(queries), _QUERIES))
        return np.vstack([self._index.search(_single(part), width)[1] for part in parts])


def ivf_index(rows: Rows, *, probes: int, folder: Path) -> Index:
    """Rows in about 4 sqrt(N) lists, one around each of as many centres; a search looks into the `probes` nearest.

    The lists lie in a file in `folder`, memory-mapped: 2 D + 8 bytes a row, and up to five times that for the gaps that
    growing lists leave. Memory is that of the training sample, 64 rows a list: 4 D * 256 sqrt(N) bytes.
    """
    faiss = _faiss()
    count, dim = rows.array.shape
    lists = max(1, min(round(4 * math.sqrt(count)), count // 39))
    sample = np.unique(np.linspace(0, count - 1, min(count, _TRAINING_ROWS * lists)).astype(np.int64))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    index.train(_single(rows.array[sample]))
    rows.touched(len(sample))
    file = folder / "lists.ivf"
    file.unlink(missing_ok=True)
    on_disk = faiss.OnDiskInvertedLists(lists, index.code_size, str(file))
    on_disk.this.disown()  # Python's garbage collection is not to free what the index owns from now on
    index.replace_invlists(on_disk, True)
    index.nprobe = min(probes, lists)
    return _filled(index, rows)


def hnsw_index(rows: Rows, *, links: int, search: int) -> Index:
    """A graph in which each row has 2 `links` neighbours (arXiv:1603.09320): 2 D + 8 links + some 20 bytes a row, in
    memory. Rows are inserted by all cores at once, so that it is not the same graph each time.

    Args:
        links: M. search: efSearch, the candidates that are kept while searching.
    """
    faiss = _faiss()
    index = faiss.IndexHNSWSQ(
        rows.array.shape[1], faiss.ScalarQuantizer.QT_fp16, links, faiss.METRIC_INNER_PRODUCT
    )  # fmt: skip
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_SEARCH, search
    index.train(_single(rows.array[:1]))  # halves need none, but FAISS insists
    return _filled(index, rows)


def measured_recall(rows: Rows, find: Finder, exact: Finder, k: int, sample: int) -> float:
    """The share of the exact k nearest rows that `find` finds, of `sample` rows evenly spread over the file."""
    own = np.unique(np.linspace(0, len(rows) - 1, min(sample, len(rows))).astype(np.int64))
    queries = rows.array[own]
    rows.touched(len(own))
    (_, there), (_, found) = exact(queries, own, k), find(queries, own, k)
    return float((found[:, :, None] == there[:, None, :]).any(axis=1).mean())


def _filled(index: Any, rows: Rows) -> Index:
    for first in range(0, len(rows), _BLOCK):
        index.add(_single(rows.block(first, min(first + _BLOCK, len(rows)))))
    return index


def _single(rows: np.ndarray) -> np.ndarray:
    return widened(np.ascontiguousarray(rows)).numpy()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ValueError(
            "retrieval.index 'ivf' and 'hnsw' need FAISS, which is not installed here: pip install faiss-cpu (Linux "
            "with a GPU: faiss-gpu), or set retrieval.index to 'exact'."
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss
