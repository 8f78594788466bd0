"""BYOL's loss against the formula written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.learning.losses.regression import regression_loss


def regression_loss_numpy(q: np.ndarray, z: np.ndarray) -> float:
    """BYOL, equation 2, as printed: the squared distance of the two vectors after each is divided by its length."""
    total = 0.0
    for row_q, row_z in zip(q.astype(np.float64), z.astype(np.float64), strict=True):
        difference = row_q / np.sqrt(np.sum(row_q**2)) - row_z / np.sqrt(np.sum(row_z**2))
        total += np.sum(difference**2)
    return total / len(q)


@pytest.mark.parametrize(("seed", "n", "dim"), [(0, 1, 4), (1, 7, 3), (2, 32, 256)])
def test_agrees_with_the_printed_formula(seed: int, n: int, dim: int):
    rng = np.random.default_rng(seed)
    q, z = rng.normal(size=(n, dim)).astype(np.float32), 5 * rng.normal(size=(n, dim)).astype(np.float32)

    loss = regression_loss(torch.from_numpy(q), torch.from_numpy(z))

    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(regression_loss_numpy(q, z), rel=1e-5)


@pytest.mark.parametrize(("target", "expected"), [([3.0, 0.0], 0.0), ([0.0, 2.0], 2.0), ([-1.0, 0.0], 4.0)])
def test_depends_on_the_angle_alone(target: list[float], expected: float):
    assert regression_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([target])).item() == pytest.approx(expected)


def test_no_gradient_flows_into_the_target():
    prediction, target = (torch.randn(4, 8, requires_grad=True) for _ in range(2))

    regression_loss(prediction, target).backward()

    assert target.grad is None
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0


def test_computes_in_float32_whatever_the_network_computed_in():
    q, z = torch.randn(16, 64, dtype=torch.bfloat16), torch.randn(16, 64, dtype=torch.bfloat16)
    expected = regression_loss_numpy(q.float().numpy(), z.float().numpy())
    assert regression_loss(q, z).item() == pytest.approx(expected, rel=1e-5)
