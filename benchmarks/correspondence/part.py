"""What every part is given, and how its figures are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.correspondence.data import Data
from benchmarks.rounds import Summary, alternate, summary

# ORL's filter (footnote 2): boxes of 640 x 480 photos.
FILTER: dict[str, Any] = {"min_side": 96, "max_aspect": 3.0, "max_iou": 0.5, "max_boxes": 100}


@dataclass(frozen=True)
class Setup:
    """
    Attributes:
        photos: of the whole stage. rounds: repetitions of each timing.
        quick: tiny sizes: does it work at all?
        knn: rows and width of the features of the nearest neighbour search.
        memory: small and large number of photos.
        started: time.monotonic() of the start, for messages.
    """

    data: Data
    work: Path
    device: torch.device
    photos: int
    rounds: int
    quick: bool
    knn: tuple[int, int]
    memory: tuple[int, int]
    workers: int
    started: float

    def pick(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual

    def say(self, words: str) -> None:
        print(f"[{time.monotonic() - self.started:5.0f} s] {words}", flush=True)


def timed(
    ways: Mapping[str, Callable[[], object]], rounds: int, baseline: str, units: float, *, warmup: int = 1
) -> dict[str, Any]:
    """Times `ways` in turn.

    Args:
        units: things that one call works on.

    Returns:
        `seconds`: of a unit; `times_as_fast`: for each way but `baseline`, its speed relative to that, ratios taken
        within a round. Medians and percentiles.
    """
    seconds = alternate(ways, rounds, warmup=warmup)
    return {
        "seconds": {name: summary(taken / units) for name, taken in seconds.items()},
        "times_as_fast": {
            name: summary(seconds[baseline] / taken) for name, taken in seconds.items() if name != baseline
        },
    }


def median(figures: Mapping[str, Any], way: str) -> float:
    """How many times as fast as the baseline `way` is."""
    found: Summary = figures["times_as_fast"][way]
    return found["median"]


def best_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) float64: the largest IoU of each of (n, 4) boxes with any of (m, 4) others; written out in NumPy."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=2)
    area, other = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others))
    return (common / (area[:, None] + other[None] - common)).max(axis=1)
