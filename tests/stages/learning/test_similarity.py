"""Half-precision rows: converted as PyTorch does, compared exactly, and no rougher than promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stages.learning.similarity import (
    as_rough,
    exact_similarity,
    keep_largest,
    lost_to_rounding,
    rough_error,
    rounded,
    widened,
)
from stages.learning.unit_half import unit_half


def all_halves() -> np.ndarray:
    """Every float16 that is a number, subnormal ones and both zeros included."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    return values[np.isfinite(values)][None]


def test_every_half_is_converted_as_pytorch_does() -> None:
    halves = all_halves()
    assert torch.equal(widened(halves).view(torch.int32), torch.from_numpy(halves).float().view(torch.int32))
    # Ours rounds ties away from zero, PyTorch to even: as near, but another number.
    wide = torch.from_numpy(halves).float()
    rough = as_rough([halves], torch.bfloat16).float()
    normal = wide.abs() >= 2.0**-14
    nearest = wide.bfloat16().float()
    assert torch.equal((rough - wide)[normal].abs(), (nearest - wide)[normal].abs())
    assert not rough[~normal].any()


def test_parts_are_laid_end_to_end() -> None:
    parts = [np.full((rows, 3), rows, np.float16) for rows in (2, 1, 4)]
    for dtype in (torch.bfloat16, torch.float32):
        assert as_rough(parts, dtype)[:, 0].tolist() == [2, 2, 1, 4, 4, 4, 4]


@pytest.mark.parametrize("dim", [7, 256, 2048])
def test_exact_is_exact_and_rough_is_near(dim: int) -> None:
    rows = unit_half(torch.randn(60, dim, generator=torch.Generator().manual_seed(dim)) + 0.5)
    wide = widened(rows).numpy()
    exact = [[sum((a.astype(float) * b.astype(float)).tolist()) for b in rows] for a in rows]
    ours = [[exact_similarity(a, b.view(np.uint16)) for b in rows] for a in wide]
    assert ours == exact
    for dtype in (torch.bfloat16, torch.float32):
        rough, lost = as_rough([rows], dtype), lost_to_rounding(rows, dtype)
        error = np.abs((rough @ rough.T).double().numpy() - exact).max()
        assert error <= rough_error(dtype, dim, 2 * lost, largest=1.01)


def test_what_rounding_takes() -> None:
    rows = torch.randn(5, 9)
    rough, lost = rounded(rows, 16)
    assert torch.equal(rough[:, :9], rows.bfloat16())
    assert not rough[:, 9:].any()
    torch.testing.assert_close(lost, (rows - rows.bfloat16().float()).norm(dim=1))


@settings(deadline=None)  # the first call compiles
@given(arrays.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1, 1, width=16)), st.integers(1, 9))
def test_the_largest_are_kept(scores: np.ndarray, width: int) -> None:
    values, numbers = np.full(width, -np.inf, np.float32), np.full(width, -1, np.int64)
    half = len(scores) // 2
    keep_largest(scores[:half], 0, values, numbers)
    keep_largest(scores[half:], half, values, numbers)
    expected = np.sort(scores)[::-1][:width]
    assert sorted(values[numbers >= 0].tolist(), reverse=True) == expected.tolist()
    assert all(scores[number] == value for number, value in zip(numbers, values, strict=True) if number >= 0)


@settings(deadline=None)  # the first call compiles
@given(arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1, 1, width=16)))
def test_the_largest_positive_ones_are_kept_by_their_bits(scores: np.ndarray) -> None:
    rough = torch.from_numpy(scores).bfloat16()
    bits, numbers = np.zeros(5, np.int16), np.full(5, -1, np.int64)
    keep_largest(rough.view(torch.int16).numpy(), 0, bits, numbers)
    kept = torch.from_numpy(bits).view(torch.bfloat16).float().sort(descending=True).values
    expected = torch.cat([rough.float().clamp(min=0), torch.zeros(5)]).sort(descending=True).values[:5]
    assert torch.equal(kept, expected)
