"""Superpixels: SLIC (Achanta et al., PAMI 2012), scikit-image's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.segmentation import slic

from stages.correspondence.searched import open_searched, searched_size
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import LabelMaps, Segment


def make(
    *, catalog: Catalog, segments: Sequence[int], compactness: float, max_pixels: int
) -> tuple[list[str], Segment]:
    """One map for each number of `segments`, which is met about. A photo of more than about `max_pixels` is segmented
    in a copy of that size.

    Args:
        compactness: weight of nearness against likeness of colour.
    """

    def segment(image: int) -> LabelMaps:
        width, height = catalog.sizes[image].tolist()
        photo = open_searched(catalog, image, searched_size((width, height), None, max_pixels))
        maps = [slic(photo, min(count, photo.size // 3), compactness, start_label=0) for count in segments]
        return LabelMaps((width, height), [labels.astype(np.int32) for labels in maps])

    return [f"segments_{count}" for count in segments], segment
