"""Similarities of stored rows (see `unit_half`): many of them roughly and fast, or a few exactly.

The product of two such float16 numbers is a multiple of 2^-48, so a float64 sum over a row of length 1 is exact
whatever the order of its terms. Exact similarities are therefore functions of the stored file alone: FAISS, PyTorch, a
GPU or a plain loop find the same.

The rough ones are products of bf16 matrices, where the machine has units for them, or of float32 ones. How far they can
be from the exact ones is known (`rough_error`), so that a few exact similarities settle what the rough ones leave open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from stages.learning.devices import resolve_precision

BF16_ROUNDING, FLOAT32_ROUNDING = 2.0**-9, 2.0**-24
SAFETY = 1.02  # for squares of errors, and lengths that are 1 but for rounding

_MAGNITUDE, _SIGN = np.uint32(0x7FFF), np.uint32(0x8000)
_13, _16 = np.uint32(13), np.uint32(16)
_REBIAS = np.float32(2.0**112)  # between the exponents of float16 and float32: 127 - 15
_CHUNK = 64


def rough_dtype(device: torch.device) -> torch.dtype:
    """The type of numbers that are multiplied for rough similarities: bf16 on a CPU with matrix units for it."""
    # A GPU is fast enough with float32, which leaves fewer rows to settle.
    fast = device.type == "cpu" and resolve_precision("auto", device)[0] == "bf16"
    return torch.bfloat16 if fast else torch.float32


def rough_error(dtype: torch.dtype, dim: int) -> float:
    """More than the error of a product of two rows of length 1 rounded to `dtype`, by Cauchy-Schwarz.

    Rounding to bf16 changes each entry by at most 2^-9 of it, hence a row x by a vector no longer than 2^-9 |x|: the
    product of two rows errs by 2 * 2^-9, and is rounded itself. Sums are in float32, D terms err by D * 2^-24.

    Args:
        dim: D.
    """
    sums = dim * FLOAT32_ROUNDING
    return SAFETY * (3 * BF16_ROUNDING + sums if dtype == torch.bfloat16 else sums)


def as_rough(parts: Sequence[np.ndarray], dtype: torch.dtype) -> Tensor:
    """(n, D) bf16 or float32 tensor of the float16 rows of all parts, (any, D) each."""
    bf16 = dtype == torch.bfloat16
    out = np.empty((sum(map(len, parts)), parts[0].shape[1]), np.uint16 if bf16 else np.float32)
    convert, first = _to_bfloat16 if bf16 else _to_float32, 0
    for rows in parts:
        convert(rows.view(np.uint16), out[first : first + len(rows)])
        first += len(rows)
    return torch.from_numpy(out.view(np.int16)).view(dtype) if bf16 else torch.from_numpy(out)


def widened(rows: np.ndarray) -> Tensor:
    """(n, D) float16 rows as a float32 tensor."""
    return as_rough([rows], torch.float32)


# numba has no float16: rows come as their bits. Exact sums may be made in any order, hence "reassoc".
_FAST: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(inline="always", **_FAST)
def _bits_to_float(bits: np.uint16) -> np.float32:
    """The value of a float16, given as uint16. Also of subnormal ones, but not of infinity and NaN."""
    half = np.uint32(bits)
    moved = np.uint32(np.uint32(half & _MAGNITUDE) << _13 | np.uint32(half & _SIGN) << _16)
    return np.float32(moved.view(np.float32) * _REBIAS)


@njit(**_FAST)
def _to_float32(bits: np.ndarray, out: np.ndarray) -> None:
    """bits: (n, D) uint16. out: (n, D) float32."""
    for row in range(len(bits)):
        for entry in range(bits.shape[1]):
            out[row, entry] = _bits_to_float(bits[row, entry])


@njit(**_FAST)
def _to_bfloat16(bits: np.ndarray, out: np.ndarray) -> None:
    """bits: (n, D) uint16 of float16. out: (n, D) uint16 of bf16, rounded to nearest, ties to even."""
    for row in range(len(bits)):
        for entry in range(bits.shape[1]):
            value = _bits_to_float(bits[row, entry])
            word = value.view(np.uint32)
            odd = np.uint32(np.uint32(word >> _16) & np.uint32(1))
            out[row, entry] = np.uint16(np.uint32(word + np.uint32(0x7FFF) + odd) >> _16)


@njit(fastmath={"reassoc", "contract"}, **_FAST)
def exact_similarity(query: np.ndarray, bits: np.ndarray) -> float:
    """query: (D,) float32, a widened row. bits: (D,) uint16, a stored row. Their product, float64."""
    total = 0.0
    for entry in range(len(query)):
        total += np.float64(query[entry]) * np.float64(_bits_to_float(bits[entry]))
    return total


@njit(**_FAST)
def widen_row(bits: np.ndarray, out: np.ndarray) -> None:
    """bits: (D,) uint16, a stored row. out: (D,) float32."""
    for entry in range(len(bits)):
        out[entry] = _bits_to_float(bits[entry])


@njit(**_FAST)
def keep_largest(scores: np.ndarray, first: int, values: np.ndarray, numbers: np.ndarray) -> None:
    """Puts those of `scores` that are larger than the smallest of `values` in its place, one after another.

    Args:
        scores: (n,) float32, or int16 that are the bits of bf16: of the numbers `first` .. `first` + n - 1.
        values: (W,) of that type, a heap: its smallest entry is first. Begin with -inf, or with 0: positive bf16 are
            in the order of their bits, and negative ones below.
        numbers: (W,) integers that belong to `values`.
    """
    least = values[0]
    for start in range(0, len(scores), _CHUNK):
        stop = min(start + _CHUNK, len(scores))
        larger = np.int32(0)
        for at in range(start, stop):  # nearly always all there is to do; vector instructions make it fast
            larger += np.int32(scores[at] > least)
        if larger > 0:
            for at in range(start, stop):
                if scores[at] > least:
                    _replace_smallest(values, numbers, scores[at], first + at)
                    least = values[0]


@njit(**_FAST)
def _replace_smallest(values: np.ndarray, numbers: np.ndarray, value: float, number: int) -> None:
    place, count = 0, len(values)
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        if child + 1 < count and values[child + 1] < values[child]:
            child += 1
        if values[child] >= value:
            break
        values[place], numbers[place] = values[child], numbers[child]
        place = child
    values[place], numbers[place] = value, number
