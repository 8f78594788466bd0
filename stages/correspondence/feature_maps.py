"""Features of boxes from one forward pass a photo: RoIAlign on the last feature map (He et al. 2017, section 3).

Many times cheaper than a pass for each box, and not the same feature: a cell of the map has seen what lies around the
box, and is some 30 pixels wide. `agreement` measures what that costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from stages.correspondence.crops import cut, cut_on_device
from stages.data.boxes import Boxes
from stages.data.photos import Photos
from stages.learning.frozen import Frozen
from stages.process import ordered_map

_PHOTOS = 8  # looked at together; those of one size pass the network together
_CELL = 32  # pixels between the cells of most networks' last maps


class _Picture(NamedTuple):
    image: int
    pixels: Tensor  # (1, 3, h, w) uint8, as the network sees it
    boxes: np.ndarray  # (n, 4) float32, as shares of the photo's sides


def map_features(
    network: Frozen, photos: Photos, boxes: Boxes, images: Iterable[int], *, side: int, threads: int
) -> Iterator[Tensor]:
    """Yields the features of all boxes of `images`, in order: (n, C) float32 on the network's device, not normalised.

    Args:
        images: photo numbers.
        side: longer side of a photo as the network sees it, in pixels; see `seen_size`.
        threads: decode photos ahead of the network.

    Raises:
        UnreadablePhoto: a photo is gone, broken or changed since the catalog was made.
    """
    with ThreadPoolExecutor(threads) as pool:
        pictures = ordered_map(pool, partial(_picture, network, photos, boxes, side), images, window=2 * threads)
        while together := list(islice(pictures, _PHOTOS)):
            yield _features(network, together)


def _picture(network: Frozen, photos: Photos, boxes: Boxes, side: int, image: int) -> _Picture:
    photo = photos.open(image).pixels
    height, width = photo.shape[:2]
    whole, size = np.array([[0, 0, width, height]]), seen_size(width, height, side)
    if network.device.type == "cuda":
        pixels = cut_on_device(torch.from_numpy(photo).to(network.device), whole, *size)
    else:
        pixels = cut(photo, whole, *size)
    shares = (boxes.of(image) / [width, height, width, height]).astype(np.float32)
    return _Picture(image, pixels, shares)


def seen_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height with a longer side of about `side`, both rounded to multiples of 32 pixels, and at least 32.

    So the cells of the map cover the photo evenly, up to its edges, and many photos are of one size.
    """
    scale = side / max(width, height)
    return max(_CELL, round(width * scale / _CELL) * _CELL), max(_CELL, round(height * scale / _CELL) * _CELL)


def _features(network: Frozen, pictures: list[_Picture]) -> Tensor:
    """The features of all boxes of a few photos, in the order of the photos."""
    of_size: dict[torch.Size, list[_Picture]] = {}
    for picture in pictures:
        of_size.setdefault(picture.pixels.shape, []).append(picture)
    features: dict[int, Tensor] = {}
    for group in of_size.values():
        maps = network.feature_map(torch.cat([picture.pixels for picture in group])).float()  # (N, C, h, w)
        cells = torch.tensor(maps.shape[:1:-1]).repeat(2)  # w, h, w, h
        rois = [(torch.from_numpy(picture.boxes) * cells).to(maps.device) for picture in group]
        # A bin has about one sample a cell of the map, so one bin is the mean over the box.
        pooled = roi_align(maps, rois, output_size=1, aligned=True)[:, :, 0, 0]  # (n, C)
        for picture, rows in zip(group, pooled.split([len(roi) for roi in rois]), strict=True):
            features[picture.image] = rows
    return torch.cat([features[picture.image] for picture in pictures])


def agreement(crops: np.ndarray, maps: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    """How far the features of both modes say the same of the same boxes.

    Args:
        crops, maps: (n, C) of length 1: the features of n boxes, by either mode.
        images: (n,) the photo of each box; at least two differ.

    Returns:
        The mean cosine similarity of a box's two features, those of each mode taken about their own mean: without that
        any two features of an encoder look alike. And the share of boxes whose most similar box in another photo is the
        same by both.
    """
    centred = [features - features.mean(axis=0, dtype=np.float32) for features in (crops, maps)]
    lengths = [np.linalg.norm(features, axis=1) for features in centred]
    cosine = (centred[0] * centred[1]).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    same = _nearest(crops, images) == _nearest(maps, images)
    return float(cosine.mean()), float(same.mean())


def _nearest(features: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(n,) the most similar box of another photo, for each."""
    rows = features.astype(np.float32)
    nearest = np.empty(len(rows), np.int64)
    for image in np.unique(images):
        own = images == image
        similarity = rows[own] @ rows.T
        similarity[:, own] = -np.inf
        nearest[own] = similarity.argmax(axis=1)
    return nearest
