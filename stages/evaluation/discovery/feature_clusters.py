"""The objects that a network finds by itself: k-means on the cells of its feature map, each photo for itself.

Source: the talk on Odin (Henaff et al. 2022) evaluates networks so, on COCO: "cluster features using k-means, report
best overlap". Number of clusters, size of photos and distance are not published.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from stages.data.masks.segmentation import LabelMaps, Size

Distance = Literal["cosine", "euclidean"]


def cluster(features: np.ndarray, clusters: Sequence[int], *, distance: Distance, seed: int) -> list[np.ndarray]:
    """One label map for each number of clusters: (C, h, w) float32 -> (h, w) uint16 each.

    Lloyd's algorithm from one k-means++ start, as scikit-learn has it by default, in one thread: sums over threads
    would be rounded in another order each time. So the maps are a function of the features and the seed.

    Args:
        clusters: numbers of clusters, each at most h * w.
        distance: "cosine" compares directions (cells are scaled to length 1), "euclidean" what the network puts out.

    Raises:
        ValueError: there are fewer cells than clusters.
    """
    channels, height, width = features.shape
    if max(clusters) > height * width:
        raise ValueError(
            f"{max(clusters)} clusters of a feature map with {height} x {width} cells: each needs a cell at least. Ask "
            "for fewer discovery.clusters, or show larger photos (discovery.cells)."
        )
    cells = np.ascontiguousarray(features.reshape(channels, -1).T, np.float32)
    if distance == "cosine":
        cells /= np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12)
    with _threads().limit(limits=1), warnings.catch_warnings():
        # A collapsed network has fewer different cells than clusters. Its figures say so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [
            KMeans(number, random_state=seed).fit_predict(cells).reshape(height, width).astype(np.uint16)
            for number in clusters
        ]


@lru_cache(maxsize=1)
def _threads() -> ThreadpoolController:
    """Looks once which libraries with threads are loaded, which takes as long as clustering a small map."""
    return ThreadpoolController()


def grid(size: Size, clusters: Sequence[int]) -> LabelMaps:
    """As many equal rectangles, more along the photo's longer side: regions that know nothing of the photo."""
    maps = []
    for number in clusters:
        fewer = max(n for n in range(1, int(number**0.5) + 1) if number % n == 0)
        shape = (fewer, number // fewer) if size[0] >= size[1] else (number // fewer, fewer)
        maps.append(np.arange(number, dtype=np.uint16).reshape(shape))
    return LabelMaps(size, maps)
