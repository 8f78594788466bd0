"""The compiled parts of `stages.correspondence.masks.felzenszwalb`: smoothing, edges between pixels, segments.

An edge is one number: its first pixel, times 4, plus its direction. Compiled at the first call and kept on the disk.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_DOWN, _DOWN_RIGHT, _UP_RIGHT = 1, 2, 3  # the direction 0 is right

_DIGIT_BITS = 10
_DIGITS = 3  # 30 bits hold every float32 from 0 to below 2; the dearest edge, black to white, costs sqrt(3)
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
            above, below = lines[rows[y + radius - distance]], lines[rows[y + radius + distance]]
            _add_weighted(above, below, weights[distance], line)
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
def measure(picture, costs, packed):
    """Fills `costs`, one place for each number of an edge, and `packed`, the edges in their first order, each with its
    cost as float32 in the upper half: those bits sort as the numbers do, none being negative."""
    height, width, channels = picture.shape
    at = 0
    for direction in range(4):
        right = 0 if direction == _DOWN else 1
        down = 1 if direction in (_DOWN, _DOWN_RIGHT) else -1 if direction == _UP_RIGHT else 0
        for y in range(max(0, -down), height - max(0, down)):
            for x in range(width - right):
                total = 0.0
                for channel in range(channels):
                    difference = picture[y, x, channel] - picture[y + down, x + right, channel]
                    total += difference * difference
                edge = 4 * (y * width + x) + direction
                costs[edge] = np.sqrt(total)
                packed[at] = np.uint64(np.float32(costs[edge]).view(np.uint32)) << np.uint64(32) | np.uint64(edge)
                at += 1


@njit(cache=True, nogil=True)
def sort(packed, target, costs, edges):
    """Fills `edges` by rising cost, equals in the order of `packed`, and returns the costs in that order.

    A stable radix sort by the float32 costs; then, what these do not tell apart, by the float64 costs. The memory of
    `packed` is used again for what is returned.
    """
    count, buckets = len(packed), 1 << _DIGIT_BITS
    places = np.zeros((_DIGITS, buckets), np.int64)
    mask = np.uint64(buckets - 1)
    for i in range(count):
        for digit in range(_DIGITS):
            places[digit, packed[i] >> np.uint64(32 + digit * _DIGIT_BITS) & mask] += 1
    source = packed
    for digit in range(_DIGITS):
        place, total = places[digit], 0
        for bucket in range(buckets):
            place[bucket], total = total, total + place[bucket]
        shift = np.uint64(32 + digit * _DIGIT_BITS)
        for i in range(count):
            bucket = source[i] >> shift & mask
            target[place[bucket]] = source[i]
            place[bucket] += 1
        source, target = target, source
    exact = target.view(np.float64)
    for i in range(count):
        edges[i] = np.int32(source[i] & np.uint64(0xFFFFFFFF))
        exact[i] = costs[edges[i]]
    first = 0
    for i in range(1, count + 1):
        if i == count or source[i] >> np.uint64(32) != source[first] >> np.uint64(32):
            if i - first > 1:
                _sort_run(exact[first:i], edges[first:i])
            first = i
    return exact


@njit(cache=True, nogil=True)
def _sort_run(costs, edges):
    if len(costs) > _SHORT_RUN:
        order = np.argsort(costs, kind="mergesort")
        costs[:], edges[:] = costs[order], edges[order]
        return
    for i in range(1, len(costs)):
        cost, edge, at = costs[i], edges[i], i
        while at > 0 and costs[at - 1] > cost:
            costs[at], edges[at] = costs[at - 1], edges[at - 1]
            at -= 1
        costs[at], edges[at] = cost, edge


@njit(cache=True, nogil=True)
def segment(edges, costs, width, scales, min_sizes, labels):
    """Fills `labels` (scales, pixels). `scales` are those of colours from 0 to 1."""
    pixels = labels.shape[1]
    steps = np.array([1, width, width + 1, 1 - width], np.int32)
    low, high = scales.min(), scales.max()
    parents = np.full(pixels, -1, np.int32)  # a root holds its segment's size, negative
    dearest = np.zeros(pixels)  # at a root: the cost of the dearest edge within its segment
    between, count = np.empty(len(edges), np.int32), 0
    same, count = _grow(edges, costs, 0, steps, low, high, parents, dearest, between, count)
    for which in range(len(scales)):
        scale, own_parents, own_count = scales[which], parents, count
        if same < len(edges):
            own_parents, own_dearest = parents.copy(), dearest.copy()
            _, own_count = _grow(edges, costs, same, steps, scale, scale, own_parents, own_dearest, between, count)
        elif len(scales) > 1:
            own_parents = parents.copy()
        _remove_small(between[:own_count], steps, min_sizes[which], own_parents)
        _number(own_parents, labels[which])


@njit(cache=True, nogil=True)
def _grow(edges, costs, start, steps, low, high, parents, dearest, between, count):
    """Joins segments along the edges from `start` on, as long as the scales `low` and `high` agree.

    Changes `parents` and `dearest`, and appends to the `count` edges in `between` those that it finds between segments.

    Returns:
        the edge that they do not agree on, the number of edges if there is none; and the new `count`.
    """
    limits = np.empty((len(parents), 2), np.float32)  # at a root, for `low` and `high`; float32 as in scikit-image
    for pixel in range(len(parents)):
        size = max(1, -parents[pixel])
        limits[pixel, 0] = np.float32(dearest[pixel] + low / size)
        limits[pixel, 1] = np.float32(dearest[pixel] + high / size)
    for i in range(start, len(edges)):
        pixel = edges[i] >> 2
        one, other = _root(parents, pixel), _root(parents, pixel + steps[edges[i] & 3])
        if one == other:
            continue
        joins = costs[i] < min(limits[one, 0], limits[other, 0])
        if joins != (costs[i] < min(limits[one, 1], limits[other, 1])):
            return i, count
        if joins:
            root = _join(parents, one, other)
            dearest[root] = costs[i]
            limits[root, 0] = np.float32(costs[i] + low / -parents[root])
            limits[root, 1] = np.float32(costs[i] + high / -parents[root])
        else:
            between[count] = edges[i]
            count += 1
    return len(edges), count


@njit(cache=True, nogil=True)
def _remove_small(between, steps, min_size, parents):
    for edge in between:
        pixel = edge >> 2
        one, other = _root(parents, pixel), _root(parents, pixel + steps[edge & 3])
        if one != other and min(-parents[one], -parents[other]) < min_size:
            _join(parents, one, other)


@njit(cache=True, nogil=True)
def _number(parents, labels):
    labels[:] = -1
    found = 0
    for pixel in range(len(parents)):
        root = _root(parents, pixel)
        if labels[root] < 0:  # the first pixel of its segment
            labels[root] = found
            found += 1
        labels[pixel] = labels[root]


@njit(cache=True, nogil=True)
def _root(parents, pixel):
    """The root of a pixel's segment. All pixels on the way are hung directly below it, for the next time."""
    root = pixel
    while parents[root] >= 0:
        root = parents[root]
    while pixel != root and parents[pixel] != root:
        parents[pixel], pixel = root, parents[pixel]
    return root


@njit(cache=True, nogil=True)
def _join(parents, one, other):
    """Makes one segment of those with these roots; returns its root, that of the larger one."""
    if parents[one] > parents[other]:
        one, other = other, one
    parents[one] += parents[other]
    parents[other] = one
    return one
