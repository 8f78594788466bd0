"""From uniform numbers in [0, 1) to what is wanted.

Numbers are drawn many at a time and then brought into place: a call of a generator costs far more than such a sum.
"""

from __future__ import annotations

import math


def between(uniform: float, low: float, high: float) -> float:
    """Uniform in [low, high)."""
    return low + uniform * (high - low)


def log_between(uniform: float, low: float, high: float) -> float:
    """In [low, high), uniform in its logarithm."""
    return math.exp(between(uniform, math.log(low), math.log(high)))


def one_of(uniform: float, count: int) -> int:
    """Uniform in 0 .. count - 1. A smaller count takes the same draw to the same place, as a share of all."""
    return int(uniform * count)
