"""ORL's filter on the boxes of selective search: ours against plain Python loops, with the same outcome."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.correspondence.part import FILTER, Setup, median, timed
from stages.correspondence.filter import filter_boxes
from stages.correspondence.proposals import selective_search


def measure(setup: Setup) -> dict[str, Any]:
    propose = selective_search.make(mode="fast", variant="default")
    photos = setup.data.standard_photos(setup.pick(24, 2))
    boxes = [propose(photo, 0, np.random.default_rng(0))[0] for photo in photos]
    setup.say(f"filter: {sum(map(len, boxes))} boxes of {len(photos)} photos")
    rows = [each.tolist() for each in boxes]
    ways: dict[str, Callable[[], object]] = {
        "python": functools.partial(_python, rows),
        "ours": functools.partial(_ours, boxes),
    }
    figures = {"photos": len(photos)} | timed(ways, setup.rounds, "python", len(photos))
    figures["identical"] = _python(rows) == [kept.tolist() for kept in _ours(boxes)]
    return figures | {"headline": {"filter_vs_python": median(figures, "ours")}}


def _ours(boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [filter_boxes(each, **FILTER) for each in boxes]


def _python(photos: Sequence[list[list[int]]]) -> list[list[int]]:
    return [plain_filter(boxes, **FILTER) for boxes in photos]


def plain_filter(
    boxes: list[list[int]], *, min_side: int, max_aspect: float, max_iou: float, max_boxes: int
) -> list[int]:
    """The definition, word by word: the rows that stay. boxes: x0, y0, x1, y1."""
    kept: list[int] = []
    for row, (x0, y0, x1, y1) in enumerate(boxes):
        width, height = x1 - x0, y1 - y0
        if width < min_side or height < min_side or width / height > max_aspect or height / width > max_aspect:
            continue
        worst = 0.0
        for other in kept:
            a0, b0, a1, b1 = boxes[other]
            common = max(0, min(x1, a1) - max(x0, a0)) * max(0, min(y1, b1) - max(y0, b0))
            worst = max(worst, common / (width * height + (a1 - a0) * (b1 - b0) - common))
        if worst <= max_iou:
            kept.append(row)
    return kept[:max_boxes]
