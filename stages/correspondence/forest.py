"""Disjoint sets as a forest, for compiled code.

It is an int32 array with the parent of each node, or for a root minus its set's size: in nodes or what they stand for.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def above(parents, node):
    """One step towards the root. Compiled without a branch, so that many are under way at once."""
    up = parents[np.uint64(node)]
    return np.int64(up if up >= 0 else node)


@njit(cache=True, nogil=True, inline="always")
def find(parents, node):
    """The root of a node's set. Nodes on the way are hung one step higher, for the next time."""
    node = np.uint64(node)
    up = parents[node]
    while up >= 0:
        upper = parents[np.uint64(up)]
        if upper < 0:
            return np.int64(up)
        parents[node] = upper
        node = np.uint64(upper)
        up = parents[node]
    return np.int64(node)


@njit(cache=True, nogil=True, inline="always")
def join(parents, one, other):
    """Joins the sets of two roots, the smaller below the larger, `other` where they are equal. Returns the new root."""
    if parents[one] > parents[other]:
        one, other = other, one
    parents[one] += parents[other]
    parents[other] = one
    return one
