"""Matching the boxes of photos with those of their 10 neighbours: ours against a loop over neighbours in NumPy.

100 boxes a photo with 2,048 made-up features each, the best 10 % (of the query's boxes) kept. NumPy has them as
float32, normalises and sorts all similarities, as the loop one writes first does; ours reads the stored float16 ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.correspondence.knn import make_features
from benchmarks.correspondence.part import Setup, median, timed
from stages.correspondence.best_pairs import Matcher, Rule
from stages.learning.similarity import lost_to_rounding, rough_dtype

_NEIGHBORS, _FRACTION = 10, 0.1


def measure(setup: Setup) -> dict[str, Any]:
    photos, boxes, width = (12, 20, 64) if setup.quick else (60, 100, 2048)
    queries = setup.pick(200, 2)
    path = setup.work / "boxes.npy"
    make_features(path, photos * boxes, width)
    setup.say(f"pairs: {queries} photos with {_NEIGHBORS} neighbours, {boxes} boxes each")
    stored = np.load(path, mmap_mode="r", allow_pickle=False).reshape(photos, boxes, width)
    wide = np.array(stored, np.float32)
    rng = np.random.default_rng(0)
    scenes = [rng.choice(photos, _NEIGHBORS + 1, replace=False).tolist() for _ in range(queries)]
    lost = lost_to_rounding(stored.reshape(-1, width), rough_dtype(setup.device))
    matcher = Matcher(Rule(fraction=_FRACTION), setup.device, lost)
    ways: dict[str, Callable[[], list[Any]]] = {
        "numpy": functools.partial(_all, _numpy, wide, scenes),
        "ours": functools.partial(_all, functools.partial(_ours, matcher), stored, scenes),
    }
    figures = timed(ways, setup.rounds, "numpy", queries)
    same = [
        len(set(map(tuple, a.tolist())) & set(map(tuple, b.tolist()))) / len(b)
        for ours, theirs in zip(ways["ours"](), ways["numpy"](), strict=True)
        for a, b in zip(ours, theirs, strict=True)
    ]
    figures["same_pairs"] = float(np.mean(same))
    return figures | {"headline": {"pairs_vs_numpy": median(figures, "ours"), "pairs_overlap": figures["same_pairs"]}}


def _all(way: Callable[[np.ndarray, list[np.ndarray]], Any], rows: np.ndarray, scenes: list[list[int]]) -> list[Any]:
    return [way(rows[query], [rows[other] for other in others]) for query, *others in scenes]


def _ours(matcher: Matcher, query: np.ndarray, others: list[np.ndarray]) -> list[np.ndarray]:
    return [pairs for pairs, _ in matcher(query, others)[0]]


def _numpy(query: np.ndarray, others: list[np.ndarray]) -> list[np.ndarray]:
    found = []
    for other in others:
        left = query / np.linalg.norm(query, axis=1, keepdims=True)
        right = other / np.linalg.norm(other, axis=1, keepdims=True)
        similarity = left @ right.T
        best = np.argsort(-similarity, axis=None)[: max(1, int(_FRACTION * len(query)))]
        found.append(np.stack(np.divmod(best, len(other)), axis=1))
    return found
