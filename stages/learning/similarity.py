"""Similarities of stored rows (see `unit_half`): many of them roughly and fast, or a few exactly.

The product of two such float16 numbers is a multiple of 2^-48, so a float64 sum over a row of length 1 is exact
whatever the order of its terms. Exact similarities are therefore functions of the stored file alone: FAISS, PyTorch, a
GPU or a plain loop find the same.

The rough ones are products of bf16 matrices, where the machine has units for them, or of float32 ones. How far they can
be from the exact ones is known (`rough_error`), so that a few exact similarities settle what the rough ones leave open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from stages.learning.devices import resolve_precision

BF16_ROUNDING, FLOAT32_ROUNDING = 2.0**-8, 2.0**-24  # half of the last of 8 and of 24 binary digits
SAFETY = 1.02  # for products of two errors, and lengths that are 1 but for rounding

_MAGNITUDE, _SIGN = np.uint32(0x7FFF), np.uint32(0x8000)
_UPPER = np.uint32(0xFFFF0000)
_13, _16 = np.uint32(13), np.uint32(16)
_MAGNITUDE_16, _SIGN_16, _LEAST_NORMAL = np.uint16(0x7FFF), np.uint16(0x8000), np.uint16(0x0400)
_HALF_OF_LAST, _DROPPED, _REBIAS_16 = np.uint16(4), np.uint16(3), np.uint16(112 << 7)  # of 10 digits 7 are left
_REBIAS = np.float32(2.0**112)  # between the exponents of float16 and float32: 127 - 15
_CHUNK = 64


def rough_dtype(device: torch.device) -> torch.dtype:
    """The type of numbers that are multiplied for rough similarities: bf16 on a CPU with matrix units for it."""
    # A GPU is fast enough with float32, which leaves fewer rows to settle.
    fast = device.type == "cpu" and resolve_precision("auto", device)[0] == "bf16"
    return torch.bfloat16 if fast else torch.float32


def rough_error(dtype: torch.dtype, dim: int, lost: float = 0.0, largest: float = 1.0) -> float:
    """More than the error of any product of two matrices whose rows have length 1.

    By Cauchy-Schwarz, what rounding has taken from a row changes its products by no more than the length of that. Sums
    are in float32, D terms err by D * 2^-24. A product of bf16 is rounded itself.

    Args:
        dim: D.
        lost: the largest length of what rounding took from a row of the one matrix, plus that of the other.
        largest: the largest product, or an absolute value above it.
    """
    return SAFETY * (lost + dim * FLOAT32_ROUNDING + (BF16_ROUNDING * largest if dtype == torch.bfloat16 else 0.0))


def as_rough(parts: Sequence[np.ndarray], dtype: torch.dtype) -> Tensor:
    """(n, D) bf16 or float32 tensor of the float16 rows of all parts, (any, D) each."""
    bf16 = dtype == torch.bfloat16
    out = np.empty((sum(map(len, parts)), parts[0].shape[1]), np.uint16 if bf16 else np.float32)
    convert, first = _to_bfloat16 if bf16 else _to_float32, 0
    for rows in parts:
        convert(rows.view(np.uint16), out[first : first + len(rows)])
        first += len(rows)
    return _bfloat16(out) if bf16 else torch.from_numpy(out)


def lost_to_rounding(rows: np.ndarray, dtype: torch.dtype) -> float:
    """The largest length of what `as_rough` takes from one of the (n, D) float16 rows."""
    if dtype != torch.bfloat16:
        return 0.0
    return float((widened(rows) - as_rough([rows], dtype).float()).norm(dim=1).max())


def rounded(rows: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """(n, D) float32 rows in bf16 with zeros up to `columns`, and (n,) float32: the length of what a row lost."""
    bits, lost = np.zeros((len(rows), columns), np.uint16), np.empty(len(rows), np.float32)
    _round(rows.numpy(), bits, lost)
    return _bfloat16(bits), torch.from_numpy(lost)


def _bfloat16(bits: np.ndarray) -> Tensor:
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)


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


@njit(inline="always", **_FAST)
def _rounded_bits(value: np.float32) -> np.uint32:
    """The bits of a bf16 in the upper half of those of a float32, rounded to nearest, ties to even."""
    word = value.view(np.uint32)
    odd = np.uint32(np.uint32(word >> _16) & np.uint32(1))
    return np.uint32(np.uint32(word + np.uint32(0x7FFF) + odd) & _UPPER)


@njit(**_FAST)
def _to_bfloat16(bits: np.ndarray, out: np.ndarray) -> None:
    """bits: (n, D) uint16 of float16. out: (n, D) uint16 of bf16, rounded to nearest; what is below 2^-14 (subnormal in
    float16) becomes zero. In integers of 16 bits, which takes half the time of rounding by way of float32."""
    for row in range(len(bits)):
        source, target = bits[row], out[row]
        for entry in range(len(source)):
            half = np.uint16(source[entry])
            size = np.uint16(half & _MAGNITUDE_16)
            shorter = np.uint16(np.uint16(size + _HALF_OF_LAST) >> _DROPPED)
            value = np.uint16(shorter + _REBIAS_16) if size >= _LEAST_NORMAL else np.uint16(0)
            target[entry] = np.uint16(value | np.uint16(half & _SIGN_16))


@njit(fastmath={"reassoc", "contract"}, **_FAST)
def _round(rows: np.ndarray, out: np.ndarray, lost: np.ndarray) -> None:
    """rows: (n, D) float32. out: (n, D or more) uint16 of bf16. lost: (n,) float32, lengths of what rounding took."""
    for row in range(len(rows)):
        squares = np.float32(0)
        for entry in range(rows.shape[1]):
            value = np.float32(rows[row, entry])
            word = _rounded_bits(value)
            difference = np.float32(value - word.view(np.float32))
            squares += difference * difference
            out[row, entry] = np.uint16(word >> _16)
        lost[row] = math.sqrt(squares)


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
