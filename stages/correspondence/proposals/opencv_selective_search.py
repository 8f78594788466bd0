"""Selective search (Uijlings et al. 2013) as OpenCV has it: the proposals of ORL's official code.

OpenCV's *set* of boxes depends on the picture alone. Its *order* does not: it sorts by `level * rand()`, and C's
rand() is never seeded, so the order depends on how many pictures the process has seen before. ORL's filter is greedy
in that order, so official results differ between two runs. We take OpenCV's set and put it in an order of our own,
pseudo-random too, but drawn from a generator that the caller seeds.

What is lost: OpenCV's levels cannot be read from Python, so the bias that `level` gives to its order (small low-level
segments tend to come first) is not there; every order is equally likely here. Our own `selective_search` has it.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.correspondence.opencv_contrib import contrib
from stages.correspondence.proposals import Propose
from stages.correspondence.proposals.ranking import ranked

MODES = ("fast", "quality", "single")


def make(*, mode: str = "fast") -> Propose:
    """All boxes of OpenCV's selective search, in a random order.

    The scores are the random numbers that make the order, uniform in [0, 1).

    Args:
        mode: "fast" (the official choice: HSV and Lab, k = 150, 300, 450, two strategies), "quality" or "single".

    Raises:
        ValueError: `mode` is none of those.
        RuntimeError: OpenCV was installed without its contrib modules.
    """
    if mode not in MODES:
        raise ValueError(f"selective search has no mode '{mode}'. Choose one of: {', '.join(MODES)}.")
    segmentation = contrib("ximgproc").segmentation

    def propose(photo: np.ndarray, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        search = segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
        if mode == "fast":
            search.switchToSelectiveSearchFast()
        elif mode == "quality":
            search.switchToSelectiveSearchQuality()
        else:
            search.switchToSingleStrategy()
        found = np.asarray(search.process(), dtype=np.int64).reshape(-1, 4)
        boxes = np.hstack([found[:, :2], found[:, :2] + found[:, 2:]])
        boxes = boxes[np.lexsort(boxes.T)]  # a canonical order: OpenCV's own depends on the process's history
        return ranked(boxes, rng.random(len(boxes), dtype=np.float32))

    return propose
