"""The labelled objects themselves: what perfect proposals would be worth."""

from __future__ import annotations

import numpy as np

from stages.correspondence.box_quality import COLUMNS, objects_by_photo
from stages.correspondence.proposals import Propose
from stages.correspondence.proposals.ranking import ranked
from stages.data.catalog import Catalog


def make(*, catalog: Catalog) -> Propose:
    """The boxes of a photo's labelled objects, without crowds and difficult ones, rounded outward; the largest first.

    The score is the box's share of the photo. They pass the filter like any other proposals, so lower
    `regions.min_side` for small objects.

    Raises:
        ValueError: the data set has no labels.
    """
    if not catalog.has_labels:
        raise ValueError(
            f"regions.proposals=ground_truth needs labels, and the catalog in {catalog.directory} has none. Use a data "
            "set in COCO or VOC format, or proposals that need no labels, such as selective_search."
        )

    def propose(photo: np.ndarray, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        size = np.array(photo.shape[1::-1])
        (objects,) = objects_by_photo(catalog.labels_of(image, image + 1, COLUMNS), image, image + 1)
        boxes = objects * np.tile(size / catalog.sizes[image], 2)
        # A corner that lies on a pixel's edge but for a rounding error stays there.
        low, high = np.floor(boxes[:, :2] + 1e-6), np.ceil(boxes[:, 2:] - 1e-6)
        corners = np.hstack([low, np.minimum(high, size)]).astype(np.int64)
        return ranked(corners, (corners[:, 2:] - corners[:, :2]).prod(axis=1) / size.prod())

    return propose
