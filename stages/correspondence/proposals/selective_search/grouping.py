"""Hierarchical grouping: the two most similar neighbours become one, and so on (Uijlings et al. 2013, algorithm 1).

OpenCV sorts all similarities again for each merge. Here every pair of neighbours has one place in a heap, which moves
as its similarity changes; a region's pairs hang on a linked list, so that merging two regions joins two lists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from stages.correspondence.proposals.selective_search.statistics import Regions


class Strategy(NamedTuple):
    """How much each measure counts in the similarity of two regions; the sum does not matter."""

    color: float
    fill: float
    texture: float
    size: float


def overlaps(regions: Regions, *, color: bool) -> tuple[np.ndarray, np.ndarray]:
    """How much the colours and the textures of each pair have in common: two (pairs,) float32 in 0 .. 1.

    Strategies share these. color: False if no strategy asks for the colours; then they are zeros.
    """
    colors = _overlaps(regions.colors, regions.pairs) if color else np.zeros(len(regions.pairs), np.float32)
    return colors, _overlaps(regions.textures, regions.pairs)


@njit(cache=True, nogil=True)
def _overlaps(histograms, pairs):
    shared = np.empty(len(pairs), np.float32)
    for i in range(len(pairs)):
        shared[i] = _overlap(histograms[pairs[i, 0]], histograms[pairs[i, 1]])
    return shared


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def _overlap(one, other):
    """Histogram intersection."""
    total = np.float32(0)
    for i in range(len(one)):
        total += min(one[i], other[i])
    return total


@njit(cache=True, nogil=True, fastmath=True)
def _mix(one, other, pixels, others):
    """The histogram of two regions together, in place of the first."""
    share = np.float32(pixels) / np.float32(pixels + others)
    rest = np.float32(others) / np.float32(pixels + others)
    for i in range(len(one)):
        one[i] = one[i] * share + other[i] * rest


@njit(cache=True, nogil=True)
def _similarity(weights, size, boxes, pixels, a, b, color, texture):
    """The weighted mean of the four measures; equations 3 to 6 of the paper."""
    both = size[a] + size[b]
    width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
    height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
    fill = np.float32(1) - np.float32(width * height - both) / pixels
    small = np.float32(1) - np.float32(both) / pixels
    total = weights[0] * color + weights[1] * fill + weights[2] * texture + weights[3] * small
    return total / (weights[0] + weights[1] + weights[2] + weights[3])


@njit(cache=True, nogil=True)
def group(regions, shared_colors, shared_textures, weights, pixels):
    """All regions of the hierarchy: those given, then each merged one.

    Args:
        regions: `Regions`; left as it is.
        shared_colors, shared_textures: from `overlaps`.
        weights: (4,) float32, a `Strategy`.
        pixels: of the picture.

    Returns:
        boxes (n, 4) int32, and levels (n,) int32: 1 for the regions given, one more than the higher of the two merged.
    """
    count, pairs, area = len(regions.size), len(regions.pairs), np.float32(pixels)
    # A merged region lives on in the slot of the lower number.
    parent, size, boxes = np.arange(count), regions.size.copy(), regions.boxes.copy()
    colors = regions.colors.copy() if weights[0] > 0 else regions.colors
    textures = regions.textures.copy() if weights[2] > 0 else regions.textures
    level = np.ones(count, np.int32)
    found_boxes, found_levels = np.empty((2 * count - 1, 4), np.int32), np.ones(2 * count - 1, np.int32)
    found_boxes[:count] = boxes

    ends = regions.pairs.reshape(-1)  # half h of pair h // 2 hangs on the list of ends[h] and leads to ends[h ^ 1]
    first, last, following = np.full(count, -1), np.full(count, -1), np.full(2 * pairs, -1)
    for half in range(2 * pairs):
        _append(first, last, following, ends[half], half)
    similar = np.empty(pairs, np.float32)
    for pair in range(pairs):
        a, b = regions.pairs[pair]
        similar[pair] = _similarity(weights, size, boxes, area, a, b, shared_colors[pair], shared_textures[pair])
    heap, place = np.arange(pairs), np.arange(pairs)
    for at in range(pairs // 2 - 1, -1, -1):
        _sink(heap, place, similar, pairs, at)
    seen = np.full(count, -1)
    found, left = count, pairs
    while left:
        best = heap[0]
        left = _remove(heap, place, similar, left, best)
        a, b = _root(parent, ends[2 * best]), _root(parent, ends[2 * best + 1])
        a, b = min(a, b), max(a, b)
        if weights[0] > 0:
            _mix(colors[a], colors[b], size[a], size[b])
        if weights[2] > 0:
            _mix(textures[a], textures[b], size[a], size[b])
        parent[b] = a
        size[a] += size[b]
        level[a] = max(level[a], level[b]) + 1
        for i in range(2):
            boxes[a, i], boxes[a, 2 + i] = min(boxes[a, i], boxes[b, i]), max(boxes[a, 2 + i], boxes[b, 2 + i])
        found_boxes[found], found_levels[found] = boxes[a], level[a]
        # Both lists become one, without pairs that are inside now and without second pairs with the same neighbour.
        halves, then = first[a], first[b]
        first[a] = last[a] = -1
        while halves >= 0 or then >= 0:
            if halves < 0:
                halves, then = then, -1
            half, halves = halves, following[halves]
            pair = half >> 1
            if place[pair] < 0:
                continue
            other = _root(parent, ends[half ^ 1])
            if seen[other] == found:
                left = _remove(heap, place, similar, left, pair)
                continue
            seen[other] = found
            _append(first, last, following, a, half)
            color = _overlap(colors[a], colors[other]) if weights[0] > 0 else np.float32(0)
            texture = _overlap(textures[a], textures[other]) if weights[2] > 0 else np.float32(0)
            similar[pair] = _similarity(weights, size, boxes, area, a, other, color, texture)
            _rise(heap, place, similar, place[pair])
            _sink(heap, place, similar, left, place[pair])
        found += 1
    return found_boxes[:found], found_levels[:found]


@njit(cache=True, nogil=True)
def _root(parent, slot):
    while parent[slot] != slot:
        parent[slot] = parent[parent[slot]]
        slot = parent[slot]
    return slot


@njit(cache=True, nogil=True)
def _append(first, last, following, slot, half):
    following[half] = -1
    if last[slot] < 0:
        first[slot] = half
    else:
        following[last[slot]] = half
    last[slot] = half


# A binary heap of pairs, the most similar on top, of equal ones the lower number; place[pair] is where it stands, -1
# once it has left.


@njit(cache=True, nogil=True)
def _before(similar, one, other):
    return similar[one] > similar[other] or (similar[one] == similar[other] and one < other)


@njit(cache=True, nogil=True)
def _rise(heap, place, similar, at):
    pair = heap[at]
    while at > 0:
        above = (at - 1) >> 1
        if not _before(similar, pair, heap[above]):
            break
        heap[at] = heap[above]
        place[heap[at]] = at
        at = above
    heap[at] = pair
    place[pair] = at


@njit(cache=True, nogil=True)
def _sink(heap, place, similar, left, at):
    pair = heap[at]
    while True:
        below = 2 * at + 1
        if below >= left:
            break
        if below + 1 < left and _before(similar, heap[below + 1], heap[below]):
            below += 1
        if not _before(similar, heap[below], pair):
            break
        heap[at] = heap[below]
        place[heap[at]] = at
        at = below
    heap[at] = pair
    place[pair] = at


@njit(cache=True, nogil=True)
def _remove(heap, place, similar, left, pair):
    """Takes a pair out of the heap of `left` pairs. Returns how many remain."""
    at, left = place[pair], left - 1
    place[pair] = -1
    if at < left:
        heap[at] = heap[left]
        place[heap[at]] = at
        moved = heap[at]
        _rise(heap, place, similar, at)
        _sink(heap, place, similar, left, place[moved])
    return left
