"""How well boxes cover the labelled objects of photos: recall and average best overlap, for the first so many boxes.

Neither crowds nor difficult objects count, as in VOC and COCO. Both measures are over all objects, whatever their
class. Sums of objects, so that figures of shards add up to those of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
from numba import njit

from stages.correspondence.filter import iou
from stages.data.objects import clear_objects

FIRST = (100, 500)  # boxes of a photo; and all of them
LEAST_OVERLAP = 0.5  # an object is found by a box of this IoU (VOC development kit: ovmax >= minoverlap)

COLUMNS = ("image", "x0", "y0", "x1", "y1", "crowd", "difficult")  # of the labels


@dataclass
class BoxQuality:
    """Sums over objects. `found` and `overlap` are (3,): by the first 100, the first 500 and all boxes of a photo.

    Attributes:
        objects: how many were looked for.
        found: how many of them have a box of at least LEAST_OVERLAP.
        overlap: sum of the largest IoU of each object with any box.
    """

    objects: int = 0
    found: np.ndarray = field(default_factory=lambda: np.zeros(len(FIRST) + 1))
    overlap: np.ndarray = field(default_factory=lambda: np.zeros(len(FIRST) + 1))

    def add(self, objects: np.ndarray, boxes: np.ndarray) -> None:
        """A photo. objects: (m, 4) float, boxes: (n, 4) int, best first; x0, y0, x1, y1 in its pixels, half-open."""
        best = best_overlaps(objects, boxes)
        self.objects += len(best)
        self.found += (best >= LEAST_OVERLAP).sum(axis=0)
        self.overlap += best.sum(axis=0)

    def __add__(self, other: BoxQuality) -> BoxQuality:
        return BoxQuality(self.objects + other.objects, self.found + other.found, self.overlap + other.overlap)

    def metrics(self) -> dict[str, float]:
        """recall_100, recall_500, recall_all and abo_100, abo_500, abo_all, each 0 .. 1, and labelled_objects."""
        figures: dict[str, float] = {"labelled_objects": self.objects}
        for column, name in enumerate((*map(str, FIRST), "all")):
            figures[f"recall_{name}"] = float(self.found[column] / self.objects)
            figures[f"abo_{name}"] = float(self.overlap[column] / self.objects)
        return figures


def best_overlaps(objects: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The largest IoU of each object with the first 100, the first 500 and all boxes, 0 where there are none.

    Args:
        objects: (m, 4) float, boxes: (n, 4) int, best first; x0, y0, x1, y1, half-open.

    Returns:
        (m, 3) float64 in 0 .. 1.
    """
    ends = np.minimum([*FIRST, len(boxes)], len(boxes))
    return _best_overlaps(np.ascontiguousarray(objects, np.float64), np.ascontiguousarray(boxes, np.int64), ends)


@njit(cache=True, nogil=True)
def _best_overlaps(objects, boxes, ends):
    best = np.zeros((len(objects), len(ends)))
    for i in range(len(objects)):
        largest, row = 0.0, 0
        for column in range(len(ends)):
            while row < ends[column]:
                largest = max(largest, iou(objects, i, boxes, row))
                row += 1
            best[i, column] = largest
    return best


def objects_by_photo(labels: pd.DataFrame, first: int, last: int) -> list[np.ndarray]:
    """The boxes of the objects that count, of each of the photos first .. last - 1: (m, 4) float64, m may be 0.

    labels: of these photos, sorted by image (`Catalog.labels_of`).
    """
    objects = clear_objects(labels)
    ends = np.searchsorted(objects["image"].to_numpy(), np.arange(first, last + 1))
    corners = objects[["x0", "y0", "x1", "y1"]].to_numpy(np.float64)
    return [corners[start:end] for start, end in pairwise(ends)]
