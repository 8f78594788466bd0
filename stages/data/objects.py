"""Labelled objects: which of them can be compared, and how an encoder is shown one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stages.data.catalog import Catalog
from stages.data.views import View, plain_view

# Smaller objects are a few enlarged pixels, which no encoder can name.
MIN_SIDE = 16


def clear_objects(objects: pd.DataFrame) -> pd.DataFrame:
    """Without crowds (no single object) and difficult ones (hard to name for people too)."""
    return objects[~objects["crowd"].astype(bool) & ~objects["difficult"].astype(bool)]


def measured_objects(catalog: Catalog) -> pd.DataFrame:
    """The objects that are compared, sorted by image: `clear_objects` of at least MIN_SIDE pixels in width and height.

    Raises:
        ValueError: no class has objects in two photos.
    """
    objects = clear_objects(catalog.labels)
    kept = objects[np.minimum(objects["x1"] - objects["x0"], objects["y1"] - objects["y0"]) >= MIN_SIDE]
    if not in_two_photos(kept).any():
        raise ValueError(
            f"the catalog of {catalog.root} has no class with objects of at least {MIN_SIDE} pixels in two photos, so "
            "no object can be found in another photo. Test on more photos."
        )
    return kept.sort_values("image", kind="stable").reset_index(drop=True)


def in_two_photos(objects: pd.DataFrame) -> np.ndarray:
    """Whether the class of each object occurs in two photos; if not, no answer could be right. (N,) bool."""
    return (objects.groupby("category")["image"].transform("nunique") > 1).to_numpy(dtype=bool)


def object_views(objects: pd.DataFrame, size: int) -> list[list[View]]:
    """One unchanged view of each box, squeezed into `size` x `size` pixels as ORL does; one list a photo."""
    views: dict[int, list[View]] = {}
    columns = (objects[name].tolist() for name in ("image", "x0", "y0", "x1", "y1"))
    for image, x0, y0, x1, y1 in zip(*columns, strict=True):
        views.setdefault(image, []).append(plain_view(image, (x0, y0, x1, y1), size))
    return list(views.values())
