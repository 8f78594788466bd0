"""What grouping needs to know of each segment: size, box, histograms, neighbours.

All is counted once, for the parts that the segmentations of all scales have in common, and then summed for each scale.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from stages.correspondence.proposals.selective_search.pair_set import insert, larger, new_pairs
from stages.correspondence.proposals.selective_search.texture import CODES, DIRECTIONS

_COLORS = 25  # bins a channel (Uijlings et al. 2013, section 3.2)
_LEVELS = CODES // 2  # bins of each of the two parts of a derivative


class Regions(NamedTuple):
    """Of n regions in a picture with C channels.

    size: (n,) int32, pixels. boxes: (n, 4) int32, x0, y0, x1, y1, half-open. colors: (n, 25 C) float32, and
    textures: (n, 80 C) float32, histograms that sum to 1. pairs: (m, 2) int32, neighbours, each pair once.
    """

    size: np.ndarray
    boxes: np.ndarray
    colors: np.ndarray
    textures: np.ndarray
    pairs: np.ndarray


class Parts(NamedTuple):
    """Of n parts: size, boxes and pairs as in `Regions`, and histograms that are still counts, (n, bins) int32."""

    size: np.ndarray
    boxes: np.ndarray
    colors: np.ndarray
    codes: np.ndarray
    pairs: np.ndarray


def count_parts(parts: np.ndarray, number: int, channels: list[np.ndarray], codes: list[np.ndarray]) -> Parts:
    """
    Args:
        parts: (H, W) int32 in 0 .. number - 1.
        channels: C arrays (H, W) uint8.
        codes: of each channel (DIRECTIONS, H, W) uint8, see `texture`; empty if no strategy asks for texture.
    """
    colors = np.zeros((number, len(channels) * _COLORS), np.int32)
    textures = np.zeros((number, len(codes) * DIRECTIONS * CODES), np.int32)
    for c, channel in enumerate(channels):
        _count_colors(parts, channel, colors, c * _COLORS)
    for c, directions in enumerate(codes):
        _count_codes(parts, directions, textures, c * DIRECTIONS * CODES)
    size, boxes, pairs = _trace(parts, number)
    return Parts(size, boxes, colors, textures, pairs)


@njit(cache=True, nogil=True)
def _count_colors(parts, channel, counts, start):
    height, width = parts.shape
    for y in range(height):
        for x in range(width):
            counts[parts[y, x], np.uint64(start + ((np.int64(channel[y, x]) * _COLORS) >> 8))] += 1


@njit(cache=True, nogil=True)
def _count_codes(parts, codes, counts, start):
    height, width = parts.shape
    for y in range(height):
        one, two, three, four = codes[0, y], codes[1, y], codes[2, y], codes[3, y]
        for x in range(width):
            histogram = counts[parts[y, x]]
            histogram[np.uint64(start + np.int64(one[x]))] += 1
            histogram[np.uint64(start + CODES + np.int64(two[x]))] += 1
            histogram[np.uint64(start + 2 * CODES + np.int64(three[x]))] += 1
            histogram[np.uint64(start + 3 * CODES + np.int64(four[x]))] += 1


@njit(cache=True, nogil=True)
def _trace(parts, number):
    """Sizes, boxes and neighbours of parts.

    As in OpenCV, a pixel's neighbours are those to its left, above, and above to the left, and the first row and the
    first column have none.
    """
    height, width = parts.shape
    size, boxes = np.zeros(number, np.int32), np.empty((number, 4), np.int32)
    boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3] = width, height, 0, 0
    pairs, found = new_pairs(3 * number), 0  # in a plane, n regions have less than 3 n pairs of neighbours
    # Both loops over pixels write first and count then: branches on them would be guessed wrong at every border.
    starts, met = np.empty(width + 1, np.int32), np.empty((3 * width, 2), np.int32)
    for y in range(height):
        row = parts[y]
        starts[0], runs = 0, 1
        for x in range(1, width):
            starts[runs] = x
            runs += row[x] != row[x - 1]
        starts[runs] = width
        for run in range(runs):
            part, start, end = row[starts[run]], starts[run], starts[run + 1]
            box = boxes[part]
            box[0], box[1] = min(box[0], start), min(box[1], y)
            box[2], box[3] = max(box[2], end), y + 1
            size[part] += end - start
        if y == 0:
            continue
        above, meetings = parts[y - 1], 0
        for x in range(1, width):
            here, left, up, corner = row[x], row[x - 1], above[x], above[x - 1]
            # Along a border, the pixel above or to the left has just met the same pair.
            down, along = (y > 1) & (here == up), (x > 1) & (here == left)
            met[meetings, 0], met[meetings, 1] = here, left
            meetings += (here != left) & (not (down & (left == corner)))
            met[meetings, 0], met[meetings, 1] = here, up
            meetings += (here != up) & (not (along & (up == corner)))
            met[meetings, 0], met[meetings, 1] = here, corner
            meetings += (here != corner) & (corner != left) & (corner != up) & (not (down | along))
        for i in range(meetings):
            if found == len(pairs.pairs):
                pairs = larger(pairs)
            found += insert(pairs, found, met[i, 0], met[i, 1])
    return size, boxes, pairs.pairs[:found].copy()


@njit(cache=True, nogil=True)
def sum_segments(parts, segment):
    """The regions of one segmentation. segment: (parts,) int32, the segment of each part, each number in use."""
    number = segment.max() + 1
    size, boxes = np.zeros(number, np.int32), np.empty((number, 4), np.int32)
    colors = np.zeros((number, parts.colors.shape[1]), np.float32)
    textures = np.zeros((number, parts.codes.shape[1]), np.float32)
    for part in range(len(segment)):
        s = segment[part]
        if size[s] == 0:
            boxes[s] = parts.boxes[part]
        size[s] += parts.size[part]
        for i in range(2):
            boxes[s, i] = min(boxes[s, i], parts.boxes[part, i])
            boxes[s, 2 + i] = max(boxes[s, 2 + i], parts.boxes[part, 2 + i])
        _add(parts.colors[part], colors[s])
        _add(parts.codes[part], textures[s])
    channels = colors.shape[1] // _COLORS
    for s in range(number):
        pixels = np.float32(channels * size[s])  # this and the counts are exact below 2**24
        _split(textures[s])
        _scale(colors[s], pixels)
        _scale(textures[s], pixels * np.float32(2 * DIRECTIONS))
    return Regions(size, boxes, colors, textures, _pairs_between(segment, number, parts.pairs))


@njit(cache=True, nogil=True)
def _add(counts, total):
    for i in range(len(counts)):
        total[i] += np.float32(counts[i])


@njit(cache=True, nogil=True)
def _scale(histogram, total):
    for i in range(len(histogram)):
        histogram[i] /= total


@njit(cache=True, nogil=True)
def _split(codes):
    """From the counts of codes to those of the positive and the negative part of each derivative, in place.

    The positive part of a negative derivative is zero, its lowest level; the negative part of a positive one is zero,
    its highest.
    """
    for start in range(0, len(codes), CODES):
        positive, negative = codes[start : start + _LEVELS], codes[start + _LEVELS : start + CODES]
        positives, negatives = positive.sum(), negative.sum()
        positive[0] += negatives
        negative[_LEVELS - 1] += positives


@njit(cache=True, nogil=True)
def _pairs_between(segment, number, pairs):
    """Neighbouring segments, from neighbouring parts."""
    own, found = new_pairs(3 * number), 0
    for i in range(len(pairs)):
        a, b = segment[pairs[i, 0]], segment[pairs[i, 1]]
        if a != b:
            if found == len(own.pairs):
                own = larger(own)
            found += insert(own, found, a, b)
    return own.pairs[:found].copy()
