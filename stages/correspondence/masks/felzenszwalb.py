"""Segments of a photo by Felzenszwalb and Huttenlocher (IJCV 2004), with the labels that scikit-image gives.

Neighbouring pixels are joined by edges that cost their difference in colour. From the cheapest edge on, two segments
become one if the edge between them costs less than the limit of either: its dearest edge so far plus `scale` / its size
(equations 3 to 5). At last segments under `min_size` pixels join a neighbour, along the cheapest edges first.

What scikit-image does again for each scale is done once: smoothing, costs and sorting do not depend on it. Edges are
sorted a bucket at a time, and only those that then still lead from one segment to another. And the last round visits
only the edges that the first one found between two segments.

Edges of equal cost stay in their order, so that every machine finds the same segments. scikit-image sorts with NumPy's
unstable default, whose order of equals depends on the processor. Where the outcome hangs on it, as in drawings with
repeating patterns, scikit-image differs from itself; with a stable sort in its place the labels are the same, pixel by
pixel. OpenCV's variant (`stages.correspondence.graph_segmentation`) smooths, weighs and rounds differently.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage.util import img_as_float64

from stages.correspondence.masks import pixel_graph
from stages.correspondence.searched import open_searched, searched_size
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import MAX_LABELS, LabelMaps, Segment

MAX_PIXELS = 2**29  # so that the number of an edge fits into 31 bits


def make(
    *, catalog: Catalog, scales: Sequence[int], sigma: float, min_size: int | None, max_pixels: int
) -> tuple[list[str], Segment]:
    """One map a scale. A photo of more than about `max_pixels` is segmented in a copy of that size, in whose pixels
    `scales`, `sigma` and `min_size` then are.

    Where there are more segments than a map can number, all scales get the least `min_size` that rules it out.
    """
    min_sizes = list(scales) if min_size is None else [min_size] * len(scales)

    def segment(image: int) -> LabelMaps:
        width, height = catalog.sizes[image].tolist()
        photo = open_searched(catalog, image, searched_size((width, height), None, max_pixels))
        maps = felzenszwalb(photo, scales, sigma, min_sizes)
        if max(labels.max() for labels in maps) >= MAX_LABELS:
            least = -(-photo.shape[0] * photo.shape[1] // MAX_LABELS)
            maps = felzenszwalb(photo, scales, sigma, [max(least, size) for size in min_sizes])
        return LabelMaps((width, height), maps)

    return [f"scale_{scale}" for scale in scales], segment


def felzenszwalb(
    photo: np.ndarray, scales: Sequence[float], sigma: float = 0.8, min_sizes: Sequence[int] | None = None
) -> list[np.ndarray]:
    """Segments the photo at each of `scales`. Takes about 100 bytes of memory a pixel.

    Args:
        photo: (H, W, 3) uint8 RGB.
        scales: the paper's k, for colours from 0 to 255: the larger, the larger the segments.
        sigma: standard deviation in pixels of the Gaussian that smooths the photo before.
        min_sizes: smallest segment in pixels, one a scale; None takes the scales themselves, as DetCon does.

    Returns:
        For each scale (H, W) int32: segments 0, 1, ... in the order of their first pixels, row by row.

    Raises:
        ValueError: the photo is no such array or has over `MAX_PIXELS`; or there is not one minimum for each scale.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not 0 < photo.size // 3 <= MAX_PIXELS:
        raise ValueError(
            f"a photo is (H, W, 3) uint8 RGB of 1 to {MAX_PIXELS:,} pixels, not {photo.shape} {photo.dtype}. Convert "
            "it, or segment a smaller copy."
        )
    min_sizes = [int(scale) for scale in scales] if min_sizes is None else list(min_sizes)
    if not scales or len(min_sizes) != len(scales):
        raise ValueError(f"{len(scales)} scales and {len(min_sizes)} smallest sizes: pass one of each for every scale.")
    height, width = photo.shape[:2]
    costs = np.empty((4, height, width))
    pixel_graph.measure(_smoothed(photo, sigma), costs)
    labels = np.empty((len(scales), height * width), np.int32)
    pixel_graph.segment(costs.reshape(4, -1), width, np.array(scales) / 255, np.array(min_sizes), labels)
    return list(labels.reshape(-1, height, width))


def _smoothed(photo: np.ndarray, sigma: float) -> np.ndarray:
    """What `scipy.ndimage.gaussian_filter` makes of the photo, the levels in [0, 1], to the last bit but faster."""
    radius = int(4 * sigma + 0.5)  # SciPy cuts the Gaussian there
    impulse = np.zeros(2 * radius + 1)
    impulse[radius] = 1
    weights = ndimage.gaussian_filter1d(impulse, sigma, mode="constant")[radius:] if sigma > 0 else impulse[radius:]
    rows, columns = (np.pad(np.arange(side), radius, mode="symmetric") for side in photo.shape[:2])
    smooth = np.empty(photo.shape)
    pixel_graph.smooth(img_as_float64(photo), weights, rows, columns, smooth)
    return smooth
