"""ORL's filter of region proposals: large enough, not too thin, not too much like a better one."""

from __future__ import annotations

import numpy as np
from numba import njit


def filter_boxes(boxes: np.ndarray, *, min_side: int, max_aspect: float, max_iou: float, max_boxes: int) -> np.ndarray:
    """Which boxes stay: greedy in the order given, as in the official code (ORL, footnote 2).

    A box stays if both sides are at least `min_side`, neither is longer than `max_aspect` times the other, and its
    IoU with every box that stayed before is at most `max_iou`. The first `max_boxes` of these are returned.

    Args:
        boxes: (n, 4) int, x0, y0, x1, y1, half-open, best first.
        min_side: in pixels.

    Returns:
        (m,) int64 row numbers, ascending, m <= max_boxes; empty when no box qualifies.
    """
    return _kept(np.ascontiguousarray(boxes, np.int64), max(min_side, 1), max_aspect, max_iou, max_boxes)


@njit(cache=True, nogil=True)
def _kept(boxes, min_side, max_aspect, max_iou, max_boxes):
    """Stops at the last box that is wanted, and with each box at the first one that forbids it."""
    rows = np.empty(min(len(boxes), max_boxes), np.int64)
    count = 0
    for row in range(len(boxes)):
        if count == len(rows):
            break
        width, height = boxes[row, 2] - boxes[row, 0], boxes[row, 3] - boxes[row, 1]
        if width < min_side or height < min_side or width / height > max_aspect or height / width > max_aspect:
            continue
        stays = True
        for k in range(count):
            if iou(boxes, row, boxes, rows[k]) > max_iou:
                stays = False
                break
        if stays:
            rows[count] = row
            count += 1
    return rows[:count]


@njit(cache=True, nogil=True)
def iou(boxes, i, others, j):
    """Intersection over union of boxes[i] and others[j]: x0, y0, x1, y1, half-open, with an area. A float."""
    width = min(boxes[i, 2], others[j, 2]) - max(boxes[i, 0], others[j, 0])
    height = min(boxes[i, 3], others[j, 3]) - max(boxes[i, 1], others[j, 1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    area = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
    other = (others[j, 2] - others[j, 0]) * (others[j, 3] - others[j, 1])
    return common / (area + other - common)
