"""The compiled parts of `stages.correspondence.masks.felzenszwalb`: smoothing, edges between pixels, segments.

An edge is one number: its first pixel, times 4, plus its direction. Compiled at the first call and kept on the disk.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from stages.correspondence.forest import above, find, join
from stages.correspondence.radix_sort import BUCKET_SHIFT, INFINITE, bucket_sizes, sort_packed

_RIGHT, _DOWN, _DOWN_RIGHT, _UP_RIGHT = range(4)

_BUCKETS = 32
_BLOCK = 256  # edges whose roots are fetched ahead
_SHORT_RUN = 16


@njit(cache=True, nogil=True)
def smooth(picture, weights, rows, columns, smoothed):
    """Fills `smoothed`. weights: of the distances 0, 1, ...; rows, columns: of the picture, mirrored beyond it."""
    height, width, channels = picture.shape
    radius = len(weights) - 1
    lines, margin = picture.reshape(height, -1), channels * radius
    padded = np.empty(channels * width + 2 * margin)
    line = padded[margin : margin + channels * width]
    for y in range(height):
        _weigh_center(lines[y], weights[0], line)
        for distance in range(radius, 0, -1):  # SciPy's order of the sums
            upper, lower = lines[rows[y + radius - distance]], lines[rows[y + radius + distance]]
            _add_weighted(upper, lower, weights[distance], line)
        for i in range(margin):
            x, channel = divmod(i, channels)
            padded[i] = line[channels * columns[x] + channel]
            padded[margin + channels * width + i] = line[channels * columns[radius + width + x] + channel]
        out = smoothed[y].reshape(-1)
        _weigh_center(line, weights[0], out)
        for distance in range(radius, 0, -1):
            left, right = padded[margin - channels * distance :], padded[margin + channels * distance :]
            _add_weighted(left, right, weights[distance], out)


@njit(cache=True, nogil=True)
def _weigh_center(values, weight, out):
    for i in range(len(out)):
        out[i] = values[i] * weight


@njit(cache=True, nogil=True)
def _add_weighted(one, other, weight, out):
    for i in range(len(out)):
        out[i] += (one[i] + other[i]) * weight


@njit(cache=True, nogil=True)
def measure(picture, costs):
    """Fills `costs` (4, H, W): of the edge from each pixel in each direction, infinite where it leads out."""
    height = len(picture)
    costs[:] = np.inf
    for y in range(height):
        _distances(picture[y, :-1], picture[y, 1:], costs[_RIGHT, y])
        if y + 1 < height:
            _distances(picture[y], picture[y + 1], costs[_DOWN, y])
            _distances(picture[y, :-1], picture[y + 1, 1:], costs[_DOWN_RIGHT, y])
            _distances(picture[y + 1, :-1], picture[y, 1:], costs[_UP_RIGHT, y + 1])


@njit(cache=True, nogil=True)
def _distances(ones, others, out):
    for x in range(len(ones)):
        total = 0.0
        for channel in range(ones.shape[1]):
            difference = ones[x, channel] - others[x, channel]
            total += difference * difference
        out[x] = np.sqrt(total)


@njit(cache=True, nogil=True)
def segment(costs, width, scales, min_sizes, labels):
    """Fills `labels` (scales, pixels). costs: (4, pixels) from `measure`; scales: of colours from 0 to 1.

    Edges are cut into buckets by their costs. By the time of its bucket most edges lie within one segment, at every
    scale: they need no sorting (Osipov, Sanders and Singler 2009).
    """
    count, pixels = labels.shape
    steps = np.array([1, width, width + 1, 1 - width])
    packed, starts = _cut(costs)
    longest = (starts[1:] - starts[:-1]).max()
    kept, other = np.empty(longest, np.uint64), np.empty(longest, np.uint64)

    forests = np.full((count, pixels), -1, np.int32)
    limits = np.empty((count, pixels), np.float32)  # at a root: what joins it costs less; float32 as in scikit-image
    for which in range(count):
        limits[which] = np.float32(scales[which])
    # Edges between segments: as many as there could ever be, but memory that is not touched is not used.
    between, found = np.empty((count, len(packed)), np.uint64), np.zeros(count, np.int64)
    for bucket in range(_BUCKETS):
        edges = 0
        for i in range(starts[bucket], starts[bucket + 1]):
            kept[edges] = packed[i]
            edges += _apart(forests, packed[i], steps)
        ordered = sort_packed(kept, other, edges)[:edges]
        _sort_equals(ordered, costs)
        for which in range(count):
            found[which] = _grow(
                ordered, costs, steps, scales[which], forests[which], limits[which], between[which], found[which]
            )
    for which in range(count):
        _remove_small(between[which, : found[which]], steps, min_sizes[which], forests[which])
        _number(forests[which], labels[which])


@njit(cache=True, nogil=True)
def _cut(costs):
    """Cuts the edges into buckets of about the same size, the cheap ones first.

    Returns (E,) uint64, in the upper half the cost as float32, whose bits sort as the numbers do, none being negative,
    and below it the edge; within a bucket in the order of `costs`. And (_BUCKETS + 1,) int64, where the buckets start.
    """
    keys = np.empty(costs.size, np.uint32)
    flat = costs.reshape(-1)
    for i in range(len(flat)):
        keys[i] = np.float32(flat[i]).view(np.uint32)
    bucket_of, starts = bucket_sizes(keys, _BUCKETS)
    packed, place = np.empty(starts[-1], np.uint64), starts[:-1].copy()
    pixels = costs.shape[1]
    for direction in range(len(costs)):
        for pixel in range(pixels):
            key = keys[direction * pixels + pixel]
            if key < INFINITE:
                bucket = bucket_of[key >> BUCKET_SHIFT]
                packed[place[bucket]] = np.uint64(key) << np.uint64(32) | np.uint64(4 * pixel + direction)
                place[bucket] += 1
    return packed, starts


@njit(cache=True, nogil=True)
def _sort_equals(ordered, costs):
    """Brings edges whose costs are the same float32 into the order of their float64 costs; equals stay."""
    first, half = 0, np.uint64(32)
    for i in range(1, len(ordered) + 1):
        if i == len(ordered) or ordered[i] >> half != ordered[first] >> half:
            if i - first > 1:
                _sort_run(ordered[first:i], costs)
            first = i


@njit(cache=True, nogil=True)
def _sort_run(run, costs):
    exact = np.empty(len(run))
    for i in range(len(run)):
        exact[i] = _cost(costs, run[i])
    if len(run) > _SHORT_RUN:
        run[:] = run[np.argsort(exact, kind="mergesort")]
        return
    for i in range(1, len(run)):
        cost, edge, at = exact[i], run[i], i
        while at > 0 and exact[at - 1] > cost:
            exact[at], run[at] = exact[at - 1], run[at - 1]
            at -= 1
        exact[at], run[at] = cost, edge


@njit(cache=True, nogil=True, inline="always")
def _cost(costs, packed):
    return costs[np.int64(packed & np.uint64(3)), np.int64(packed & np.uint64(0xFFFFFFFF)) >> 2]


@njit(cache=True, nogil=True, inline="always")
def _rounded(packed):
    return np.uint32(packed >> np.uint64(32)).view(np.float32)


@njit(cache=True, nogil=True, inline="always")
def _ends(packed, steps):
    pixel = np.int64(packed & np.uint64(0xFFFFFFFF)) >> 2
    return pixel, pixel + steps[np.int64(packed & np.uint64(3))]


@njit(cache=True, nogil=True)
def _apart(forests, packed, steps):
    """Whether the ends of an edge may lie in two segments, in any of the forests. Looks a few steps up only."""
    one, other = _ends(packed, steps)
    apart = False
    for which in range(len(forests)):
        forest = forests[which]
        apart |= above(forest, above(forest, one)) != above(forest, above(forest, other))
    return apart


@njit(cache=True, nogil=True)
def _grow(ordered, costs, steps, scale, parents, limits, between, count):
    """Joins segments along the edges in `ordered`; changes `parents` and `limits`.

    Appends to the `count` edges in `between` those that it finds between segments, and returns the new count.
    """
    near = np.empty((_BLOCK, 2), np.int64)
    for block in range(0, len(ordered), _BLOCK):
        last = min(block + _BLOCK, len(ordered))
        for i in range(block, last):
            one, other = _ends(ordered[i], steps)
            near[i - block, 0] = above(parents, above(parents, one))
            near[i - block, 1] = above(parents, above(parents, other))
        for i in range(block, last):
            one, other = find(parents, near[i - block, 0]), find(parents, near[i - block, 1])
            if one == other:
                continue
            limit, rounded = min(limits[one], limits[other]), _rounded(ordered[i])
            if rounded < limit or (rounded == limit and _cost(costs, ordered[i]) < limit):
                root = join(parents, one, other)
                limits[root] = np.float32(_cost(costs, ordered[i]) + scale / -parents[root])
            else:
                between[count] = ordered[i]
                count += 1
    return count


@njit(cache=True, nogil=True)
def _remove_small(between, steps, min_size, parents):
    for edge in between:
        pixel, neighbor = _ends(edge, steps)
        one, other = find(parents, pixel), find(parents, neighbor)
        if one != other and min(-parents[one], -parents[other]) < min_size:
            join(parents, one, other)


@njit(cache=True, nogil=True)
def _number(parents, labels):
    labels[:] = -1
    found = 0
    for pixel in range(len(parents)):
        root = find(parents, pixel)
        if labels[root] < 0:  # the first pixel of its segment
            labels[root] = found
            found += 1
        labels[pixel] = labels[root]
