"""A stable sort of packed numbers in linear time, for compiled code, and a rough one into buckets before it."""

from __future__ import annotations

import numpy as np
from numba import njit

INFINITE = 0x7F800000  # the bits of an infinite float32
BUCKET_SHIFT = 20

_DIGIT = 11  # bits that one pass orders by: 2,048 counters stay in the first-level cache


@njit(cache=True, nogil=True)
def sort_packed(packed, other, count):
    """Sorts the first `count` entries by their upper 32 bits; stable.

    packed, other: (n,) uint64, n >= count; both are overwritten. Returns the one that holds the result.
    """
    half = np.uint64(32)
    low, high = np.uint64(0xFFFFFFFF), np.uint64(0)
    for i in range(count):
        low, high = min(low, packed[i] >> half), max(high, packed[i] >> half)
    bits = 0
    while count and (high - low) >> np.uint64(bits):
        bits += 1
    passes = (bits + _DIGIT - 1) // _DIGIT
    width = np.uint64(-(-bits // max(passes, 1)))
    mask = (np.uint64(1) << width) - np.uint64(1)
    starts = np.zeros((passes, 1 << _DIGIT), np.int64)
    for i in range(count):
        key = (packed[i] >> half) - low
        for number in range(passes):
            starts[number, (key >> (np.uint64(number) * width)) & mask] += 1
    for number in range(passes):
        place, at, shift = starts[number], 0, np.uint64(number) * width
        for digit in range(1 << _DIGIT):
            place[digit], at = at, at + place[digit]
        for i in range(count):
            digit = (((packed[i] >> half) - low) >> shift) & mask
            other[place[digit]] = packed[i]
            place[digit] += 1
        packed, other = other, packed
    return packed


@njit(cache=True, nogil=True)
def bucket_sizes(keys, buckets):
    """Ranges of float32 numbers, each with about as many of `keys` as the others.

    keys: (n,) uint32, the bits of float32 numbers from 0 on, which sort as the numbers do. Infinite ones are left out.

    Returns:
        bucket_of: (INFINITE >> BUCKET_SHIFT,) uint8, the bucket of key >> BUCKET_SHIFT, at most 256 in all.
        starts: (buckets + 1,) int64, how many keys are in the buckets before, and at last in all.
    """
    counts = np.zeros(1 << (32 - BUCKET_SHIFT), np.int64)
    for key in keys:
        counts[key >> BUCKET_SHIFT] += 1
    infinite = INFINITE >> BUCKET_SHIFT
    finite = len(keys) - counts[infinite]
    bucket_of, starts, seen = np.zeros(infinite, np.uint8), np.zeros(buckets + 1, np.int64), 0
    for digit in range(infinite):
        bucket_of[digit] = min(buckets - 1, (seen + counts[digit] // 2) * buckets // max(finite, 1))
        starts[bucket_of[digit] + 1] += counts[digit]
        seen += counts[digit]
    for bucket in range(buckets):
        starts[bucket + 1] += starts[bucket]
    return bucket_of, starts
