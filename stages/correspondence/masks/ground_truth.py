"""The labelled objects themselves: what perfect masks would be worth (DetCon, section 4.3)."""

from __future__ import annotations

import json

import numpy as np

from stages.correspondence.masks.outlines import mask_of
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import MaskStack, Segment, runs_of_mask

_PHOTOS_AT_ONCE = 1024


def make(*, catalog: Catalog) -> tuple[list[str], Segment]:
    """The masks of all labelled objects of a photo, crowds included, the largest first; they may overlap.

    The score is the mask's share of the photo.

    Raises:
        ValueError: the data set has no masks of objects.
    """
    if not has_masks(catalog):
        have = "boxes, but no masks," if catalog.has_labels else "no labels"
        raise ValueError(
            f"masks.method=ground_truth needs masks of objects, and the catalog in {catalog.directory} has {have} "
            "of them. Use a data set in COCO format, or masks that need no labels, such as felzenszwalb."
        )

    def segment(image: int) -> MaskStack:
        width, height = catalog.sizes[image].tolist()
        labels = catalog.labels_of(image, image + 1, ["segmentation"])["segmentation"].dropna()
        runs = [runs_of_mask(labelled_mask(text, catalog, image)) for text in labels]
        shares = [float(each[1::2].sum() / (width * height)) for each in runs]
        return MaskStack.of((width, height), runs, shares)

    return [], segment


def has_masks(catalog: Catalog) -> bool:
    """Whether any labelled object has one. Reads the labels up to the first, a block at a time."""
    return catalog.has_labels and any(
        catalog.labels_of(first, first + _PHOTOS_AT_ONCE, ["segmentation"])["segmentation"].notna().any()
        for first in range(0, len(catalog), _PHOTOS_AT_ONCE)
    )


def labelled_mask(text: str, catalog: Catalog, image: int) -> np.ndarray:
    """`segmentation` of the labels of photo `image` as (H, W) bool.

    Raises:
        ValueError: it is damaged, or of a photo of another size.
    """
    width, height = catalog.sizes[image].tolist()
    try:
        return mask_of(json.loads(text), (width, height))
    except ValueError as error:
        raise ValueError(
            f"the annotations of {catalog.place(image)} hold {error}. Mend them, or remove that object."
        ) from error
