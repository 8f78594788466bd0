"""Graph-based segmentation (Felzenszwalb and Huttenlocher, IJCV 2004) at several scales in one pass, as OpenCV has it.

A picture is a graph: an edge joins neighbouring pixels and weighs as much as their colours differ. Edges are visited
from the lightest on; one joins two components if it is no heavier than either's threshold, its heaviest edge so far
plus k / its pixels (algorithm 1 of the paper). Components that are too small then join a neighbour.

The edges and their order do not depend on k, and neither do most decisions: as long as an edge is accepted, or
rejected, at every k, one forest of pixels stands for all. A component about which the scales disagree is frozen: it
becomes an *atom*, a node of a second, small forest a scale, and from then on each scale joins atoms for itself.
Nothing is approximated; only work that would be done again for each k is not.

Kruskal's trick of filtering (Osipov, Sanders and Singler 2009) applies as well: edges are cut into buckets from light
to heavy, and those whose ends have come together by the time of their bucket are dropped before it is sorted.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from stages.correspondence.forest import above, find, join
from stages.correspondence.radix_sort import BUCKET_SHIFT, INFINITE, bucket_sizes, sort_packed

_BUCKETS = 32
_BLOCK = 256  # edges whose nodes are fetched ahead


def segment(planes: np.ndarray, scales: tuple[int, ...], min_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments a smoothed picture at each scale.

    Args:
        planes: (C, H, W) float32, smoothed channels.
        scales: K values of k, ascending, in levels (0 .. 255).
        min_size: of a segment, in pixels.

    Returns:
        parts: (H, W) int32. Two pixels have the same part if they share their segment at every scale.
        segments: (parts, K) int32, the segment of each part at each scale, numbered from 0 in raster order.
            `segments[:, k][parts]` are the labels of OpenCV's createGraphSegmentation at scale k.
    """
    keys = _edge_weights(planes).view(np.uint32)
    return _segment(keys, np.array(scales, np.float32), min_size)


@njit(cache=True, nogil=True, error_model="numpy")
def _edge_weights(planes):
    """(C, H, W) -> (H, 2, W) float32: each pixel's distance in colour to the right and the lower one, else infinite.

    Sums are rounded to float32 after each channel, squares are not, as in OpenCV: ties decide about segments.
    """
    channels, height, width = planes.shape
    weights = np.full((height, 2, width), np.float32(np.inf))
    for y in range(height):
        right, down = weights[y, 0, : width - 1], weights[y, 1]
        for c in range(channels):
            _add_squares(planes[c, y, :-1], planes[c, y, 1:], right, c == 0)
            if y < height - 1:
                _add_squares(planes[c, y], planes[c, y + 1], down, c == 0)
        for x in range(width - 1):
            right[x] = np.sqrt(right[x])
        for x in range(width):
            down[x] = np.sqrt(down[x])
    return weights


@njit(cache=True, nogil=True, error_model="numpy")
def _add_squares(one, other, total, first):
    for x in range(len(total)):
        difference = np.float64(one[x] - other[x])
        total[x] = np.float32((0.0 if first else np.float64(total[x])) + difference * difference)


@njit(cache=True, nogil=True, error_model="numpy")
def _cut(keys):
    """Cuts the edges into buckets of about the same size, from light to heavy.

    keys: (H, 2, W) uint32, the bits of their weights. Returns (E,) uint64, the key in the upper half and below it the
    edge, 2 * pixel + (0 for the right, 1 for the lower neighbour), within a bucket in raster order, and
    (_BUCKETS + 1,) int64, where the buckets start.
    """
    height, _, width = keys.shape
    bucket_of, starts = bucket_sizes(keys.reshape(-1), _BUCKETS)
    packed, place = np.empty(starts[-1], np.uint64), starts[:-1].copy()
    for y in range(height):
        for direction in range(2):
            for x in range(width):
                key = keys[y, direction, x]
                if key < INFINITE:
                    bucket = bucket_of[key >> BUCKET_SHIFT]
                    edge = np.uint64(2 * (y * width + x) + direction)
                    packed[place[bucket]] = (np.uint64(key) << np.uint64(32)) | edge
                    place[bucket] += 1
    return packed, starts


@njit(cache=True, nogil=True, inline="always")
def _ends(packed, width):
    edge = np.int64(packed & np.uint64(0xFFFFFFFF))
    pixel = edge >> 1
    return pixel, pixel + (width if edge & 1 else 1)


@njit(cache=True, nogil=True, inline="always")
def _weight(packed):
    return np.uint32(packed >> np.uint64(32)).view(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def _segment(keys, scales, min_size):
    height, _, width = keys.shape
    pixels, count = height * width, len(scales)
    packed, starts = _cut(keys)
    parent = np.full(pixels, -1, np.int32)
    # Of a root: the bits of the heaviest edge inside, or if it is frozen, minus (1 + its atom).
    state = np.zeros(pixels, np.int32)
    # What follows is as large as it could ever get; memory that is not touched is not used.
    own, own_inner = np.empty((pixels, count), np.int32), np.empty((pixels, count), np.float32)
    small = np.empty((len(packed), 2), np.int32)  # rejected edges of components below min_size, from light to heavy
    atoms = smalls = 0
    longest = (starts[1:] - starts[:-1]).max()
    kept, other = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    near = np.empty((_BLOCK, 2), np.int32)
    for bucket in range(_BUCKETS):
        edges = 0
        for i in range(starts[bucket], starts[bucket + 1]):
            a, b = _ends(packed[i], width)
            a, b = above(parent, above(parent, a)), above(parent, above(parent, b))
            kept[edges] = packed[i]
            edges += above(parent, a) != above(parent, b)
        ordered = sort_packed(kept, other, edges)
        for block in range(0, edges, _BLOCK):
            last = min(block + _BLOCK, edges)
            for i in range(block, last):
                a, b = _ends(ordered[i], width)
                near[i - block, 0] = above(parent, above(parent, a))
                near[i - block, 1] = above(parent, above(parent, b))
            for i in range(block, last):
                a, b = find(parent, near[i - block, 0]), find(parent, near[i - block, 1])
                if a == b:
                    continue
                weight = _weight(ordered[i])
                if state[a] >= 0 and state[b] >= 0:
                    # Thresholds grow with k: what the first scale accepts and what the last one rejects, all do.
                    size_a, size_b = np.float32(-parent[a]), np.float32(-parent[b])
                    inner_a, inner_b = np.int32(state[a]).view(np.float32), np.int32(state[b]).view(np.float32)
                    if weight <= inner_a + scales[0] / size_a and weight <= inner_b + scales[0] / size_b:
                        state[join(parent, a, b)] = np.int32(ordered[i] >> np.uint64(32))
                        continue
                    if weight > inner_a + scales[-1] / size_a or weight > inner_b + scales[-1] / size_b:
                        if min(size_a, size_b) < min_size:
                            small[smalls, 0], small[smalls, 1] = a, b
                            smalls += 1
                        continue
                for root in (a, b):
                    if state[root] >= 0:
                        own[atoms] = parent[root]
                        own_inner[atoms] = np.int32(state[root]).view(np.float32)
                        state[root] = -1 - atoms
                        atoms += 1
                apart, too_small = _decide(own, own_inner, -1 - state[a], -1 - state[b], weight, scales, min_size)
                if not apart:
                    join(parent, a, b)
                if too_small:
                    small[smalls, 0], small[smalls, 1] = a, b
                    smalls += 1
    # Components that no scale disagreed about become atoms now.
    labels, last, label = np.empty(pixels, np.int32), -1, 0
    for pixel in range(pixels):
        if parent[pixel] < 0 or parent[pixel] != last:
            root = find(parent, pixel)
            last = root
            if state[root] >= 0:
                own[atoms] = parent[root]
                state[root] = -1 - atoms
                atoms += 1
            label = -1 - state[root]
        labels[pixel] = label
    for i in range(smalls):
        small[i, 0], small[i, 1] = labels[small[i, 0]], labels[small[i, 1]]
    forests = own[:atoms].T.copy()
    for k in range(count):
        _absorb_small(forests[k], small[:smalls], min_size)
    segments = _number(labels, forests)
    return labels.reshape(height, width), segments


@njit(cache=True, nogil=True, inline="always")
def _decide(own, inner, one, other, weight, scales, min_size):
    """One edge between two atoms, at each scale.

    Returns whether some scale keeps them apart, and whether one of these may have to join them for their size.
    """
    apart = too_small = False
    for k in range(len(scales)):
        a, b = find(own[:, k], one), find(own[:, k], other)
        if a != b:
            size_a, size_b = np.float32(-own[a, k]), np.float32(-own[b, k])
            if weight <= inner[a, k] + scales[k] / size_a and weight <= inner[b, k] + scales[k] / size_b:
                inner[join(own[:, k], a, b), k] = weight
            else:
                apart = True
                too_small |= min(size_a, size_b) < min_size
    return apart, too_small


@njit(cache=True, nogil=True)
def _absorb_small(forest, edges, min_size):
    """Components below `min_size` join the neighbour along their lightest edge."""
    for i in range(len(edges)):
        a, b = find(forest, edges[i, 0]), find(forest, edges[i, 1])
        if a != b and (-forest[a] < min_size or -forest[b] < min_size):
            join(forest, a, b)


@njit(cache=True, nogil=True)
def _number(labels, forests):
    """Turns the atoms in `labels` into parts, in place, and returns the segments of each part."""
    scales, atoms = forests.shape
    number, segments = np.full((scales, atoms), -1, np.int32), np.zeros(scales, np.int64)
    part_of, parts = np.full(atoms, -1, np.int32), 0
    found = np.empty((atoms, scales), np.int32)
    slots = 1
    while slots < 2 * atoms:
        slots *= 2
    table, mask = np.full(slots, -1, np.int32), np.uint64(slots - 1)  # parts by a hash of their segments
    for pixel in range(len(labels)):
        atom = labels[pixel]
        if part_of[atom] < 0:
            row, code = found[parts], np.uint64(0)
            for k in range(scales):
                root = find(forests[k], atom)
                if number[k, root] < 0:
                    number[k, root] = segments[k]
                    segments[k] += 1
                row[k] = number[k, root]
                code = (code ^ np.uint64(row[k])) * np.uint64(0x9E3779B97F4A7C15)
            slot = (code >> np.uint64(32)) & mask
            while table[slot] >= 0 and not _equal(found[table[slot]], row):
                slot = (slot + np.uint64(1)) & mask
            if table[slot] < 0:
                table[slot] = parts
                parts += 1
            part_of[atom] = table[slot]
        labels[pixel] = part_of[atom]
    return found[:parts].copy()


@njit(cache=True, nogil=True, inline="always")
def _equal(row, other):
    same = True
    for k in range(len(row)):
        same &= row[k] == other[k]
    return same
