"""Timing several ways to do one thing beside each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

Summary = dict[str, float]


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int, *, warmup: int = 1) -> dict[str, np.ndarray]:
    """Seconds that each way took in each round: name -> (rounds,).

    In every round each way runs once, and another one is the first, so that whatever else the machine does meets all of
    them alike. `warmup` rounds before are not counted: they are for compilation, memory and clock rates.
    """
    names = list(ways)
    seconds = np.empty((warmup + rounds, len(names)))
    for number in range(warmup + rounds):
        for turn in range(len(names)):
            way = (number + turn) % len(names)
            started = time.perf_counter()
            ways[names[way]]()
            seconds[number, way] = time.perf_counter() - started
    return dict(zip(names, seconds[warmup:].T, strict=True))


def summary(values: np.ndarray) -> Summary:
    """Median of the rounds and where 90 % of them lie, interpolated between rounds."""
    low, median, high = np.percentile(values, (5, 50, 95))
    return {"median": float(median), "p5": float(low), "p95": float(high)}
