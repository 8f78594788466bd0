"""Whether pairs are right, where the photos have labels: the share whose two boxes lie on objects of one class.

A box lies on the object with which it has the largest IoU, if that is at least 0.5; or, more kindly, on the smallest
object that its centre is inside of. Pairs of boxes drawn at random from the same two photos say what matching adds:
their share is not drawn but computed. Crowds are no objects.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from numba import njit

from stages.correspondence.pair_shards import MinedPairs
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog
from stages.data.mapped import Mapped
from stages.data.npy_file import NpyWriter

_LEAST_IOU = 0.5
_PHOTOS = 256  # whose labels are read together
_COLUMNS = ("image", "category", "x0", "y0", "x1", "y1", "crowd")
_CRITERIA = ("iou", "centre")


class PairQuality:
    """Sums over pairs."""

    def __init__(self, classes: np.ndarray, starts: np.ndarray) -> None:
        """classes: of each box, from `write_classes`. starts: `Boxes.starts`."""
        self._classes, self._starts = classes, starts
        self._same, self._random, self._pairs = np.zeros(2), np.zeros(2), 0

    def add(self, first: int, mined: MinedPairs) -> None:
        """The pairs of photos from number `first` on."""
        images = np.repeat(np.arange(first, first + len(mined.counts)), mined.counts.shape[1])
        neighbors, counts = mined.neighbors.ravel(), mined.counts.ravel()
        rows = self._starts[np.repeat(images, counts)] + mined.rois[:, 0]
        other_rows = self._starts[np.repeat(neighbors, counts)] + mined.rois[:, 1]
        here, there = self._classes[rows], self._classes[other_rows]
        self._same += ((here == there) & (here >= 0)).sum(axis=0)
        self._random += _expected(self._classes, self._starts, images, neighbors, counts)
        self._pairs += len(rows)

    def metrics(self) -> dict[str, float]:
        """same_class_iou, same_class_centre: shares of the pairs; random_same_class_...: of random ones. 0 .. 1."""
        shares = {f"same_class_{name}": float(self._same[at] / self._pairs) for at, name in enumerate(_CRITERIA)}
        by_chance = {
            f"random_same_class_{name}": float(self._random[at] / self._pairs) for at, name in enumerate(_CRITERIA)
        }
        return shares | by_chance


def write_classes(photos: Catalog, boxes: Boxes, path: Path) -> np.ndarray:
    """Writes (boxes, 2) int16 and returns it, memory-mapped: the class of the object that a box lies on by IoU, and by
    its centre; -1 for none."""
    with NpyWriter(path, np.int16, (2,)) as file:
        for first in range(0, len(photos), _PHOTOS):
            last = min(first + _PHOTOS, len(photos))
            objects = photos.labels_of(first, last, _COLUMNS)
            objects = objects[~objects["crowd"].astype(bool)].sort_values("image", kind="stable")
            corners, categories = objects[["x0", "y0", "x1", "y1"]].to_numpy(float), objects["category"].to_numpy()
            ends = np.searchsorted(objects["image"], np.arange(first, last + 1))
            for image, (begin, end) in enumerate(pairwise(ends), start=first):
                file.append(classes_of(boxes.of(image), corners[begin:end], categories[begin:end]))
    return Mapped(path).array


def classes_of(boxes: np.ndarray, objects: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """(n, 2) int16: the class of each box by IoU and by its centre, -1 for none.

    Args:
        boxes: (n, 4); objects: (m, 4), corners in pixels of their photo, half-open. categories: (m,) of the objects.
    """
    classes = np.full((len(boxes), 2), -1, np.int16)
    if not len(objects):
        return classes
    overlaps = _iou(boxes.astype(float), objects)
    best = overlaps.argmax(axis=1)
    on_object = overlaps.max(axis=1) >= _LEAST_IOU
    classes[on_object, 0] = categories[best[on_object]]

    x, y = (boxes[:, :2] + boxes[:, 2:]).T[:, :, None] / 2
    inside = (objects[:, 0] <= x) & (x < objects[:, 2]) & (objects[:, 1] <= y) & (y < objects[:, 3])
    area = np.where(inside, (objects[:, 2] - objects[:, 0]) * (objects[:, 3] - objects[:, 1]), np.inf)
    classes[inside.any(axis=1), 1] = categories[area.argmin(axis=1)[inside.any(axis=1)]]
    return classes


def _iou(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    area, object_area = (np.prod(corners[:, 2:] - corners[:, :2], axis=1) for corners in (boxes, objects))
    return shared / (area[:, None] + object_area - shared)


@njit(cache=True, nogil=True, error_model="numpy")
def _expected(
    classes: np.ndarray, starts: np.ndarray, images: np.ndarray, neighbors: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """How many of as many random pairs are of one class, on average: (2,). images, neighbors, counts: (groups,)."""
    total = np.zeros(2)
    for group in range(len(images)):
        first, last = starts[images[group]], starts[images[group] + 1]
        other_first, other_last = starts[neighbors[group]], starts[neighbors[group] + 1]
        for by in range(2):
            same = 0
            for row in range(first, last):
                if classes[row, by] >= 0:
                    for other in range(other_first, other_last):
                        same += classes[row, by] == classes[other, by]
            total[by] += counts[group] * same / ((last - first) * (other_last - other_first))
    return total
