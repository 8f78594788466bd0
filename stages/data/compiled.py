"""Functions compiled for the CPU by Numba, ahead of their first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def compiled(signature: str, *, fastmath: bool = False) -> Callable[[Callable], Callable]:
    """Compiles a function now. The result is kept on the disk where that is possible.

    Args:
        fastmath: sums and the like in the order that is fastest; for numbers none of which is infinite or missing.
    """

    def decorator(function: Callable) -> Callable:
        try:
            return njit(signature, cache=True, fastmath=fastmath, **OPTIONS)(function)
        except Exception:  # nothing can be written, the disk is full, or what was kept is damaged
            return njit(signature, fastmath=fastmath, **OPTIONS)(function)

    return decorator
