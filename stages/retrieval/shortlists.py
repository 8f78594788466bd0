"""The few rows that may be nearest to a query, found by rough similarities: on the CPU, or on one or more GPUs.

Rows of the file are read in blocks and compared with thousands of queries at a time, so that memory depends neither
on the number of rows nor on that of queries, and the file is read a few times only.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numba import njit
from torch import Tensor

from stages.data.rows import Rows
from stages.learning.similarity import (
    BF16_ROUNDING,
    FLOAT32_ROUNDING,
    SAFETY,
    keep_largest,
    rough_error,
    rounded,
    widened,
)

_TILE = 512  # queries a core whose products with a block of rows fit its cache
_BLOCK = 2048  # rows
_DEVICE_BLOCK = 16384
_AS = {torch.bfloat16: torch.int16, torch.float32: torch.float32}
_MULTIPLE = 32


@dataclass(frozen=True)
class Shortlists:
    """Candidates of each of B queries.

    Attributes:
        numbers: (B, W) int64 row numbers, in no order; -1 in empty places.
        scores: (B, W) float32: score + shift is the similarity, but for an error.
        shifts, errors: (B,) float64. No score is further than the error from where it should be.

    Rows that are not on a list have no larger score than any on it, or than an empty place.
    """

    numbers: np.ndarray
    scores: np.ndarray
    shifts: np.ndarray
    errors: np.ndarray


class Search(Protocol):
    def __call__(self, queries: np.ndarray) -> Shortlists:
        """queries: (B, D) float16."""
        ...


class Bf16Search:
    """Products of bf16 matrices, for a CPU that has units for them: several times as fast as float32.

    Embeddings often all point in nearly one direction, and rounding them to bf16 would hide how they differ. So it is
    their differences from the mean c that are rounded and multiplied: q x = q c + c (x - c) + (q - c) (x - c). The
    first term is the query's shift. The second belongs to the row, and is two more columns of the matrices. Only rows
    with a positive score (the last two terms) are candidates, on average half of them: their bits are integers that
    can be compared as such.
    """

    def __init__(self, rows: Rows, width: int) -> None:
        """width: W."""
        self._rows, self._width = rows, width
        self._centre = _mean(rows)
        self._longest = self._lost = 0.0  # of rows less the mean, and of what rounding took from them: lengths
        # Two more columns, and zeros up to a multiple with which matrix units are fastest.
        self._columns = -(-(len(self._centre) + 2) // _MULTIPLE) * _MULTIPLE

    def __call__(self, queries: np.ndarray) -> Shortlists:
        bits = np.zeros((len(queries), self._width), np.int16)
        numbers = np.full(bits.shape, -1, np.int64)
        wide = widened(queries)
        left, dim = wide - self._centre, len(self._centre)
        rough, lost = rounded(left, self._columns)
        rough[:, dim : dim + 2] = 1
        self._longest = self._lost = 0.0
        _scan(self._rows, rough, self._right, bits, numbers)
        scores = torch.from_numpy(bits).view(torch.bfloat16).float()

        errors = lost * self._longest + left.norm(dim=1) * self._lost  # as in `rough_error`
        errors += BF16_ROUNDING * scores.max(dim=1).values  # of the product; the scores that count are no larger
        errors += (2 * dim * FLOAT32_ROUNDING + BF16_ROUNDING**2) * self._longest  # of the sums and the two columns
        shifts = wide.double() @ self._centre.double()
        return Shortlists(numbers, scores.numpy(), shifts.numpy(), SAFETY * errors.double().numpy())

    def _right(self, rows: np.ndarray) -> Tensor:
        centred = widened(rows) - self._centre
        rough, lost = rounded(centred, self._columns)
        self._longest = max(self._longest, float(centred.norm(dim=1).max()))
        self._lost = max(self._lost, float(lost.max()))
        column, dim = centred @ self._centre, centred.shape[1]
        rough[:, dim] = column
        rough[:, dim + 1] = column - rough[:, dim]
        return rough


class Float32Search:
    """Products of float32 matrices, on any CPU."""

    def __init__(self, rows: Rows, width: int) -> None:
        """width: W."""
        self._rows, self._width = rows, width

    def __call__(self, queries: np.ndarray) -> Shortlists:
        scores = np.full((len(queries), self._width), -np.inf, np.float32)
        numbers = np.full(scores.shape, -1, np.int64)
        _scan(self._rows, widened(queries), widened, scores, numbers)
        errors = np.full(len(queries), rough_error(torch.float32, queries.shape[1]))
        return Shortlists(numbers, scores, np.zeros(len(queries)), errors)


def _scan(
    rows: Rows, left: Tensor, right: Callable[[np.ndarray], Tensor], values: np.ndarray, numbers: np.ndarray
) -> None:
    """Fills `values` (B, W) and `numbers` (B, W) with the largest entries of the product of `left` (B, D') and the
    transposed `right(block)` (n, D') of all blocks of rows, and with the rows' numbers.

    Entries are compared as `values.dtype`, which is as wide as that of the matrices.
    """
    count, threads = len(rows), torch.get_num_threads()
    tile = _TILE * threads
    product = torch.empty(tile * _BLOCK, dtype=left.dtype)  # anew each time, its pages alone would cost more
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, count, _BLOCK):
            base = right(rows.block(first, min(first + _BLOCK, count)))
            for start in range(0, len(left), tile):
                queries = left[start : start + tile]
                scores = product[: len(queries) * len(base)].view(len(queries), len(base))
                entries = torch.mm(queries, base.T, out=scores).view(_AS[left.dtype]).numpy()
                step = -(-len(queries) // threads)
                parts = [
                    pool.submit(
                        _keep, entries[at : at + step], first,
                        values[start + at : start + at + step], numbers[start + at : start + at + step],
                    )
                    for at in range(0, len(queries), step)
                ]  # fmt: skip
                for part in parts:
                    part.result()


class DeviceSearch:
    """Matrix products in float32 on one or more devices, which take the blocks of rows in turn."""

    def __init__(self, rows: Rows, width: int, devices: list[torch.device]) -> None:
        self._rows, self._width, self._devices = rows, width, devices

    def __call__(self, queries: np.ndarray) -> Shortlists:
        count = len(self._rows)
        narrow = torch.from_numpy(np.array(queries))
        on = [narrow.to(device).float() for device in self._devices]
        best: list[tuple[Tensor, Tensor] | None] = [None] * len(self._devices)
        for turn, first in enumerate(range(0, count, _DEVICE_BLOCK)):
            place = turn % len(self._devices)
            block = torch.from_numpy(np.array(self._rows.block(first, min(first + _DEVICE_BLOCK, count))))
            base = block.to(self._devices[place]).float()
            scores, found = (on[place] @ base.T).topk(min(self._width, len(block)), dim=1)
            best[place] = self._merged([best[place], (scores, found + first)])
        scores, numbers = self._merged([None if part is None else (part[0].cpu(), part[1].cpu()) for part in best])
        missing = (0, self._width - scores.shape[1])
        return Shortlists(
            numbers=torch.nn.functional.pad(numbers, missing, value=-1).numpy(),
            scores=torch.nn.functional.pad(scores, missing, value=-torch.inf).numpy(),
            shifts=np.zeros(len(queries)),
            errors=np.full(len(queries), rough_error(torch.float32, queries.shape[1])),
        )

    def _merged(self, parts: list[tuple[Tensor, Tensor] | None]) -> tuple[Tensor, Tensor]:
        """The `width` best of several lists of (scores, numbers), each (B, any)."""
        there = [part for part in parts if part is not None]
        scores, numbers = (torch.cat(columns, dim=1) for columns in zip(*there, strict=True))
        scores, order = scores.topk(min(self._width, scores.shape[1]), dim=1)
        return scores, numbers.gather(1, order)


@njit(cache=True, nogil=True, error_model="numpy")
def _keep(scores: np.ndarray, first: int, values: np.ndarray, numbers: np.ndarray) -> None:
    """`keep_largest` for each row of scores (Q, n), values (Q, W) and numbers (Q, W)."""
    for row in range(len(scores)):
        keep_largest(scores[row], first, values[row], numbers[row])


def _mean(rows: Rows) -> Tensor:
    """(D,) float32."""
    total = torch.zeros(rows.array.shape[1], dtype=torch.float64)
    for first in range(0, len(rows), _BLOCK):
        total += widened(rows.block(first, min(first + _BLOCK, len(rows)))).sum(dim=0, dtype=torch.float64)
    return (total / len(rows)).float()
