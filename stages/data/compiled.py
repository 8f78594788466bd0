"""Functions compiled for the CPU by Numba, ahead of their first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

# No level is infinite or missing, so the order of sums and the like may be what is fastest.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}


def compiled(signature: str) -> Callable[[Callable], Callable]:
    """Compiles a function now. The result is kept on the disk where that is possible."""

    def decorator(function: Callable) -> Callable:
        try:
            return njit(signature, cache=True, **OPTIONS)(function)
        except Exception:  # nothing can be written, the disk is full, or what was kept is damaged
            return njit(signature, **OPTIONS)(function)

    return decorator
