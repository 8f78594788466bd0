"""A set of unordered pairs of numbers, for compiled code: a list in the order of arrival, and a hash table into it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit


class PairSet(NamedTuple):
    """pairs: (room, 2) int32, the lower number first. table: (slots,) int32: places in `pairs`, or -1."""

    pairs: np.ndarray
    table: np.ndarray


@njit(cache=True, nogil=True)
def new_pairs(expected):
    """An empty set with room for at least `expected` pairs."""
    slots = 64
    while slots < 2 * expected:
        slots *= 2
    return PairSet(np.empty((slots // 2, 2), np.int32), np.full(slots, -1, np.int32))


@njit(cache=True, nogil=True)
def larger(pairs):
    """A copy of a full set with more room."""
    count = len(pairs.pairs)
    copy = new_pairs(count + 1)
    for i in range(count):
        insert(copy, i, pairs.pairs[i, 0], pairs.pairs[i, 1])
    return copy


@njit(cache=True, nogil=True)
def insert(pairs, count, a, b):
    """Adds a pair to the set of `count` unless it is there. Returns the number of pairs added."""
    low, high = min(a, b), max(a, b)
    mask = np.uint64(len(pairs.table) - 1)
    code = ((np.uint64(low) << np.uint64(32)) | np.uint64(high)) * np.uint64(0x9E3779B97F4A7C15)
    slot = (code >> np.uint64(32)) & mask
    while pairs.table[slot] >= 0:
        known = pairs.pairs[pairs.table[slot]]
        if known[0] == low and known[1] == high:
            return 0
        slot = (slot + np.uint64(1)) & mask
    pairs.table[slot] = count
    pairs.pairs[count, 0], pairs.pairs[count, 1] = low, high
    return 1
