"""Selective search of one photo, from colour spaces to ranked boxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numba import njit

from stages.correspondence.graph_segmentation import segment
from stages.correspondence.proposals.selective_search.grouping import Strategy, group, overlaps
from stages.correspondence.proposals.selective_search.pair_set import insert, new_pairs
from stages.correspondence.proposals.selective_search.statistics import count_parts, sum_segments
from stages.correspondence.proposals.selective_search.texture import texture_codes


class Settings(NamedTuple):
    """What is searched.

    spaces: colour spaces by name, see `_channels`. scales: k of the segmentations, ascending. strategies: ways of
    grouping. min_size: of a segment, in pixels. sigma: of the smoothing before segmentation, in pixels. rotated:
    texture as in OpenCV, see `texture`. reduce: by how much the picture is made smaller. large_first: see `rank`.
    """

    spaces: tuple[str, ...]
    scales: tuple[int, ...]
    strategies: tuple[Strategy, ...]
    min_size: int = 100
    sigma: float = 0.8
    rotated: bool = False
    reduce: int = 1
    large_first: bool = False


def hierarchies(photo: np.ndarray, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """The regions of all hierarchies.

    Returns:
        boxes (n, 4) int64 in pixels of `photo`, x0, y0, x1, y1, half-open; several regions may have the same one.
        weights (n,) int64, see `rank`: the level, see `group`, or with `large_first` the place in its hierarchy, which
            is 1 for the last region.
    """
    height, width = photo.shape[:2]
    if settings.reduce > 1:
        size = (-(-width // settings.reduce), -(-height // settings.reduce))
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    boxes, weights = [], []
    for space in settings.spaces:
        for found, level in _hierarchies_in(_channels(photo, space), settings):
            boxes.append(found)
            weights.append(np.arange(len(found), 0, -1) if settings.large_first else level)
    corners = np.concatenate(boxes).astype(np.int64) * settings.reduce
    return np.minimum(corners, [width, height, width, height]), np.concatenate(weights).astype(np.int64)


def _hierarchies_in(channels: list[np.ndarray], settings: Settings) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    planes = np.stack([cv2.GaussianBlur(channel.astype(np.float32), (0, 0), settings.sigma) for channel in channels])
    parts, segments = segment(planes, settings.scales, settings.min_size)
    texture = any(strategy.texture for strategy in settings.strategies)
    codes = [texture_codes(channel, rotated=settings.rotated) for channel in channels] if texture else []
    counted = count_parts(parts, len(segments), channels, codes)
    color = any(strategy.color for strategy in settings.strategies)
    for k in range(len(settings.scales)):
        regions = sum_segments(counted, segments[:, k])
        shared = overlaps(regions, color=color)
        for strategy in settings.strategies:
            yield group(regions, *shared, np.array(strategy, np.float32), parts.size)


def _channels(photo: np.ndarray, space: str) -> list[np.ndarray]:
    """The channels of a colour space, as OpenCV scales them to uint8: hue is 0 .. 179."""
    if space == "hsv":
        return list(cv2.split(cv2.cvtColor(photo, cv2.COLOR_RGB2HSV)))
    if space == "lab":
        return list(cv2.split(cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)))
    red, green, blue = cv2.split(photo)
    if space == "blue":
        return [blue]
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    if space == "gray":
        return [gray]
    return [red, green, gray]  # "rg_gray": the paper's rgI


def rank(boxes: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Boxes once each, by weight * u, with u uniform in [0, 1) for each region.

    With levels as weights this is OpenCV's order, where small regions tend to come first; with places it is the paper's
    (Uijlings et al. 2013, section 4.4: "v = RND * i"), where large ones do.

    Returns:
        boxes (m, 4) int64, and scores (m,) float32 = -weight * u, the best of a box's regions; descending.
    """
    ranks = weights * rng.random(len(weights))
    order = np.argsort(ranks, kind="stable")
    order = order[_first_of_each(boxes, order)]
    return boxes[order], -ranks[order].astype(np.float32)


@njit(cache=True, nogil=True)
def _first_of_each(boxes, order):
    """Which places of `order` have a box for the first time: (n,) bool."""
    width, first = boxes[:, 2].max() + 1, np.zeros(len(order), np.bool_)
    seen, count = new_pairs(len(order)), 0
    for i in range(len(order)):
        box = boxes[order[i]]
        # The lower corner's number is the higher one, so the pair, which has no order, tells them apart.
        first[i] = insert(seen, count, box[1] * width + box[0], box[3] * width + box[2])
        count += first[i]
    return first
