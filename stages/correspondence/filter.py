"""ORL's filter of region proposals: large enough, not too thin, not too much like a better one."""

from __future__ import annotations

import numpy as np


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
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    fits = (width >= min_side) & (height >= min_side) & (width > 0) & (height > 0)
    rows = np.flatnonzero(fits)
    rows = rows[(width[rows] / height[rows] <= max_aspect) & (height[rows] / width[rows] <= max_aspect)]
    kept: list[int] = []
    # Striking out whatever overlaps a kept box is the same greedy choice, with one vectorised step for each that stays.
    while len(rows) and len(kept) < max_boxes:
        best, rows = rows[0], rows[1:]
        kept.append(int(best))
        rows = rows[iou(boxes[best], boxes[rows]) <= max_iou]
    return np.array(kept, dtype=np.int64)


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of one (4,) box with (n, 4) others, x0, y0, x1, y1, half-open. (n,) float64."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    intersection = np.maximum(sides, 0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - intersection
    return intersection / union
