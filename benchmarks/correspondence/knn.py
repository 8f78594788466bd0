"""Exact neighbours among stored features: ours against FAISS's flat index, from the same file on the disk.

The features are made up: rows around many centres, no entry below 0, of length 1, as those of photos are. A part of the
rows are queries, as time is linear in their number; each side reads and converts all rows within its time.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.correspondence.part import Setup, median, timed
from stages.data.rows import Rows
from stages.retrieval.exact import ExactFinder

_K = 10
_QUERIES = 16_384
_BLOCK = 8192
_PER_CENTRE = 20
_SPREAD = 0.7


def measure(setup: Setup) -> dict[str, Any]:
    count, width = setup.knn
    path = setup.work / "features.npy"
    make_features(path, count, width)
    queries = min(_QUERIES, count)
    setup.say(f"knn: {queries} of {count} x {width} features as queries")
    found: dict[str, np.ndarray] = {}
    ways = {
        "faiss": functools.partial(_faiss, path, queries, found),
        "ours": functools.partial(_ours, path, queries, setup.device, found),
    }
    ours_small = setup.work / "few.npy"
    make_features(ours_small, 64, width)
    _ours(ours_small, 16, setup.device, {})  # compiles
    rounds = min(setup.rounds, setup.pick(2, 1))
    figures: dict[str, Any] = {"rows": count, "width": width, "queries": queries}
    figures |= timed(ways, rounds, "faiss", queries, warmup=0)
    # The reference has float32 sums, so that equal neighbours may differ in order: both sides are compared as sets.
    hits = [len(set(a) & set(b)) for a, b in zip(found["ours"].tolist(), found["faiss"].tolist(), strict=True)]
    recall = sum(hits) / (_K * queries)
    figures["recall_at_10"] = recall
    return figures | {"headline": {"knn_vs_faiss": median(figures, "ours"), "knn_recall": recall}}


def make_features(path: Path, count: int, width: int) -> None:
    """Writes (count, width) float16 rows of length 1."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, count // _PER_CENTRE), width), np.float32)
    rows = np.lib.format.open_memmap(path, "w+", np.float16, shape=(count, width))
    for first in range(0, count, _BLOCK):
        own = centres[rng.integers(0, len(centres), min(_BLOCK, count - first))]
        block = np.maximum(own + _SPREAD * rng.standard_normal(own.shape, np.float32), 0)
        rows[first : first + _BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()


def _faiss(path: Path, queries: int, found: dict[str, np.ndarray]) -> None:
    """(queries, K) row numbers; the row itself, which comes first among its neighbours, is left out."""
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    index = faiss.IndexFlatIP(rows.shape[1])
    for first in range(0, len(rows), _BLOCK):
        index.add(torch.from_numpy(rows[first : first + _BLOCK].copy()).float().numpy())
    numbers = index.search(torch.from_numpy(rows[:queries].copy()).float().numpy(), _K + 1)[1]
    others = numbers != np.arange(queries)[:, None]
    others[others.all(axis=1), -1] = False
    found["faiss"] = numbers[others].reshape(queries, _K)


def _ours(path: Path, queries: int, device: torch.device, found: dict[str, np.ndarray]) -> None:
    rows = Rows(path)
    find = ExactFinder(rows, _K, [device])
    numbers = []
    for first in range(0, queries, _BLOCK):
        last = min(first + _BLOCK, queries)
        numbers.append(find(rows.block(first, last), np.arange(first, last), _K)[1])
    found["ours"] = np.concatenate(numbers)
