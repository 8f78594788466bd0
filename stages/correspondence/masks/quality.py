"""How well the regions of a segmentation cover the labelled objects of photos: average best overlap and recovery.

Of each object the region counts that overlaps it most (IoU). Averaged over all objects of all photos this is ABO
(DetCon, figure 7; elsewhere mBO); with all objects of a class in a photo united to one, class ABO. The share of objects
with a region of IoU over 0.5 is the recovery. Objects that are labelled with a box alone are compared with the boxes
around the regions; those figures have names of their own, as boxes overlap more easily. Crowds and difficult objects
don't count.

Sums over objects, so that figures of shards add up to those of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import ndimage

from stages.correspondence.box_quality import best_overlaps
from stages.correspondence.masks.ground_truth import labelled_mask
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import LabelMaps, Segmentation
from stages.data.objects import clear_objects

LEAST_OVERLAP = 0.5

# Of the labels.
COLUMNS = ("image", "category", "x0", "y0", "x1", "y1", "crowd", "difficult", "segmentation")

_MASKS, _CLASSES, _BOXES = range(3)
_PREFIXES = ("mask_", "class_mask_", "box_")


class MaskQuality:
    """Sums over objects with masks, classes with masks, and objects with boxes: three rows.

    Attributes:
        counts: (3,) int64, how many were looked for.
        overlap: (3, layers + 1), sums of the best overlap in each layer, and in all of them together.
        recovered: (3, layers + 1), how many of these are over LEAST_OVERLAP.
    """

    def __init__(self, layers: int) -> None:
        """layers: of label maps; 1 for masks that overlap."""
        self.counts = np.zeros(3, np.int64)
        self.overlap, self.recovered = np.zeros((2, 3, layers + 1))

    def add(self, segmentation: Segmentation, objects: pd.DataFrame, catalog: Catalog, image: int) -> None:
        """A photo: its segmentation, and the rows of its labels with COLUMNS.

        Raises:
            ValueError: the mask of an object is damaged or of another photo.
        """
        objects = clear_objects(objects)
        if not len(objects):
            return
        outlined = objects["segmentation"].notna()
        regions = _Regions(segmentation)
        for _, of_class in objects[outlined].groupby("category"):
            united = np.zeros(segmentation.size[::-1], bool)
            for text in of_class["segmentation"]:
                mask = labelled_mask(text, catalog, image)
                united |= mask
                if mask.any():  # else smaller than a pixel, which nothing can overlap
                    self._count(_MASKS, regions.overlaps(mask))
            if united.any():
                self._count(_CLASSES, regions.overlaps(united))
        boxes = objects.loc[~outlined, ["x0", "y0", "x1", "y1"]].to_numpy(np.float64)
        if len(boxes):
            self._count(_BOXES, *regions.box_overlaps(boxes))

    def _count(self, row: int, *overlaps: np.ndarray) -> None:
        """overlaps: (layers,) each."""
        with_all = np.array([[*overlap, overlap.max()] for overlap in overlaps])
        self.counts[row] += len(overlaps)
        self.overlap[row] += with_all.sum(axis=0)
        self.recovered[row] += (with_all > LEAST_OVERLAP).sum(axis=0)

    def merge(self, sums: Mapping[str, np.ndarray]) -> None:
        """Adds the attributes of that of other photos, by name."""
        self.counts += sums["counts"]
        self.overlap += sums["overlap"]
        self.recovered += sums["recovered"]

    def metrics(self, layers: Sequence[str]) -> dict[str, float]:
        """mask_abo, mask_recovery, class_mask_abo, class_mask_recovery, box_abo and box_recovery, 0 .. 1, of all
        regions together, and with several layers also of each, as mask_abo_LAYER; and the numbers, as mask_objects.
        What there are no objects for is left out."""
        names = [*(f"_{layer}" for layer in layers), ""] if len(layers) > 1 else [None, ""]
        figures: dict[str, float] = {}
        for row, prefix in enumerate(_PREFIXES):
            if not self.counts[row]:
                continue
            figures[f"{prefix}objects"] = int(self.counts[row])
            for column, name in enumerate(names):
                if name is not None:
                    figures[f"{prefix}abo{name}"] = float(self.overlap[row, column] / self.counts[row])
                    figures[f"{prefix}recovery{name}"] = float(self.recovered[row, column] / self.counts[row])
        return figures


def objects_by_photo(catalog: Catalog, first: int, last: int) -> list[pd.DataFrame] | None:
    """The labels of each of the photos first .. last - 1; None where the data set has none."""
    if not catalog.has_labels:
        return None
    labels = catalog.labels_of(first, last, COLUMNS)
    starts = np.searchsorted(labels["image"].to_numpy(), np.arange(first, last + 1))
    return [labels.iloc[starts[i] : starts[i + 1]] for i in range(last - first)]


class _Regions:
    """The regions of one photo, ready to be compared with many objects."""

    def __init__(self, segmentation: Segmentation) -> None:
        if isinstance(segmentation, LabelMaps):
            self._maps = [layer.astype(np.uint16) for layer in segmentation.layers()]
            self._areas = [np.bincount(layer.reshape(-1)) for layer in self._maps]
        else:
            self._maps = []
            self._packed = np.stack([np.packbits(mask, axis=1) for mask in segmentation.masks()])  # 8 pixels a byte
            self._areas = [np.array([int(runs[1::2].sum()) for runs in segmentation.runs])]

    def overlaps(self, mask: np.ndarray) -> np.ndarray:
        """The largest IoU of (H, W) bool with a region of each layer: (layers,) float64."""
        rows = np.flatnonzero(mask.any(axis=1))
        inside = slice(rows[0], rows[-1] + 1)
        area, found = np.count_nonzero(mask), mask[inside]
        if self._maps:
            layers = zip(self._maps, self._areas, strict=True)
            shared = [np.bincount(labels[inside][found], minlength=len(areas)) for labels, areas in layers]
        else:
            both = self._packed[:, inside] & np.packbits(found, axis=1)
            shared = [np.bitwise_count(both).sum(axis=(1, 2), dtype=np.int64)]
        return np.array([(s / (a + area - s)).max() for s, a in zip(shared, self._areas, strict=True)])

    def box_overlaps(self, objects: np.ndarray) -> np.ndarray:
        """The largest IoU of boxes (m, 4) with the box around a region of each layer: (m, layers) float64."""
        if self._maps:
            layers = [_boxes(ndimage.find_objects(layer.astype(np.int32) + 1)) for layer in self._maps]
        else:
            width = 8 * self._packed.shape[2]
            masks = (np.unpackbits(packed, axis=1, count=width) for packed in self._packed)
            layers = [_boxes([ndimage.find_objects(mask)[0] for mask in masks])]
        return np.stack([best_overlaps(objects, boxes)[:, -1] for boxes in layers], axis=1)


def _boxes(slices: Sequence[tuple[slice, slice] | None]) -> np.ndarray:
    """Rows and columns of regions, None for a label that does not occur -> (n, 4) int64: x0, y0, x1, y1, half-open."""
    found = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in filter(None, slices)]
    return np.array(found, np.int64)
