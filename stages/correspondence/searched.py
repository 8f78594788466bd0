"""The picture in which regions are searched: the photo, or a smaller copy of it; and the way back to the photo."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from stages.data.catalog import Catalog
from stages.data.decode import REDUCTIONS
from stages.data.unreadable import check_size, reading

Size = tuple[int, int]  # width, height; pixels


def searched_size(original: Size, max_side: int | None, max_pixels: int) -> Size:
    """The largest size of the same shape with at most `max_side` pixels a side and about `max_pixels` in all."""
    width, height = original
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    if max_side is not None:
        scale = min(scale, max_side / max(original))
    return max(1, round(width * scale)), max(1, round(height * scale))


def open_searched(catalog: Catalog, image: int, size: Size) -> np.ndarray:
    """The photo at `size`, (H, W, 3) uint8 RGB, resized with antialiasing.

    A JPEG is decoded at the least of libjpeg's scales that has enough pixels, so that a panorama of 180 megapixels
    never is in memory, and everything large is read faster.

    Raises:
        UnreadablePhoto: the photo is gone, broken or of another size than the catalog says.
    """
    width, height = catalog.sizes[image].tolist()
    reduction = max(r for r in REDUCTIONS if -(-width // r) >= size[0] and -(-height // r) >= size[1])
    with reading(catalog, image):
        pixels = catalog.pixels(image, reduction)
    found = (pixels.shape[1], pixels.shape[0])
    check_size(catalog, image, found, (-(-width // reduction), -(-height // reduction)))
    if found == size:
        return pixels
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def to_original(boxes: np.ndarray, searched: Size, original: Size) -> np.ndarray:
    """Boxes in a copy of size `searched` as boxes of the `original`, rounded outward. (n, 4) int64."""
    width, height = original
    scale_from, scale_to = np.array([*searched, *searched]), np.array([width, height, width, height])
    low, high = boxes * scale_to // scale_from, -(-boxes * scale_to // scale_from)
    return np.hstack([low[:, :2], np.minimum(high[:, 2:], [width, height])])
