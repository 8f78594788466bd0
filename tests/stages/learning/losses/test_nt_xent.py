"""NT-Xent against the formula written out in NumPy, and against lightly's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from process_pair import ProcessPair
from torch import Tensor

from stages.learning.distributed import rank
from stages.learning.losses.nt_xent import nt_xent


def nt_xent_numpy(z_1: np.ndarray, z_2: np.ndarray, temperature: float) -> float:
    """SimCLR, equation 1, one pair of rows at a time; the means of both directions summed as in the official code."""
    n = len(z_1)
    z = np.concatenate([z_1, z_2]).astype(np.float64)

    def similarity(i: int, j: int) -> float:
        return z[i] @ z[j] / np.sqrt(z[i] @ z[i]) / np.sqrt(z[j] @ z[j])

    def loss(i: int, j: int) -> float:
        others = [np.exp(similarity(i, k) / temperature) for k in range(2 * n) if k != i]
        return -np.log(np.exp(similarity(i, j) / temperature) / np.sum(others))

    return sum(loss(k, n + k) for k in range(n)) / n + sum(loss(n + k, k) for k in range(n)) / n


def projections(seed: int, n: int, dim: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    z_1 = rng.normal(size=(n, dim))
    return torch.from_numpy(3 * z_1).float(), torch.from_numpy(z_1 + rng.normal(size=(n, dim))).float()


@pytest.mark.parametrize(("seed", "n", "dim"), [(0, 1, 4), (1, 2, 3), (2, 7, 5), (3, 16, 128)])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_agrees_with_the_printed_formula(seed: int, n: int, dim: int, temperature: float):
    z_1, z_2 = projections(seed, n, dim)

    loss = nt_xent(z_1, z_2, temperature)

    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert loss.item() == pytest.approx(nt_xent_numpy(z_1.numpy(), z_2.numpy(), temperature), rel=1e-5, abs=1e-6)


def test_the_gradient_is_that_of_the_printed_formula():
    """By central differences of the float64 transcription, for each number of both views."""
    z_1, z_2 = (z.requires_grad_() for z in projections(0, 3, 4))

    nt_xent(z_1, z_2, 0.5).backward()

    arrays, h = [z.detach().double().numpy() for z in (z_1, z_2)], 1e-5
    for array, z in zip(arrays, (z_1, z_2), strict=True):
        expected = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            ends = []
            for shift in (h, -2 * h):
                array[place] += shift
                ends.append(nt_xent_numpy(*arrays, 0.5))
            array[place] += h
            expected[place] = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(z.grad.numpy(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_is_twice_the_loss_and_the_gradient_of_lightly(temperature: float):
    """lightly takes the mean over both directions, as the paper does; we sum them, as the official code does."""
    lightly_loss = pytest.importorskip("lightly.loss").NTXentLoss(temperature=temperature)
    ours = [z.requires_grad_() for z in projections(5, 12, 16)]
    theirs = [z.detach().clone().requires_grad_() for z in ours]

    loss, expected = nt_xent(*ours, temperature), 2 * lightly_loss(*theirs)
    loss.backward()
    expected.backward()

    torch.testing.assert_close(loss, expected)
    for z, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(z.grad, other.grad)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), temperature=st.floats(0.05, 2.0))
def test_does_not_depend_on_the_order_of_photos_the_order_of_views_or_the_length_of_embeddings(
    seed: int, n: int, temperature: float
):
    z_1, z_2 = projections(seed, n, 6)
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=rng)
    lengths = 0.01 + 100 * torch.rand(n, 1, generator=rng)
    expected = pytest.approx(nt_xent(z_1, z_2, temperature).item(), rel=1e-4, abs=1e-5)
    assert nt_xent(z_1[order], z_2[order], temperature).item() == expected
    assert nt_xent(z_2, z_1, temperature).item() == expected
    assert nt_xent(lengths * z_1, z_2 / lengths, temperature).item() == expected


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 12))
def test_the_hotter_the_nearer_to_guessing(seed: int, n: int):
    """With a very high temperature, and with embeddings that are all alike, each of the 2N - 1 others is as likely."""
    guessing = pytest.approx(2 * math.log(2 * n - 1), rel=1e-4)
    z_1, z_2 = projections(seed, n, 6)
    assert nt_xent(z_1, z_2, 1e5).item() == guessing
    assert nt_xent(z_1[:1].expand(n, -1), z_1[:1].expand(n, -1), 0.1).item() == guessing


def _of_one_of_two(z_1: Tensor, z_2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradients of this process's half of the rows."""
    halves = [z.chunk(2)[rank()].clone().requires_grad_() for z in (z_1, z_2)]
    loss = nt_xent(*halves, 0.1)
    loss.backward()
    return loss.detach(), halves[0].grad, halves[1].grad


def test_two_processes_see_each_others_negatives_and_send_their_gradients_back(two_processes: ProcessPair):
    """The mean over processes, which DistributedDataParallel takes, is the loss and the gradient of all rows."""
    ours = [z.requires_grad_() for z in projections(5, 8, 6)]
    expected = nt_xent(*ours, 0.1)
    expected.backward()

    losses, *gradients = zip(*two_processes(_of_one_of_two, *[z.detach() for z in ours]), strict=True)

    torch.testing.assert_close(torch.stack(losses).mean(), expected.detach(), rtol=1e-6, atol=1e-6)
    for z, parts in zip(ours, gradients, strict=True):
        torch.testing.assert_close(torch.cat(parts) / 2, z.grad, rtol=1e-5, atol=1e-6)


def test_perfect_embeddings_cost_next_to_nothing():
    z = torch.eye(8)
    assert nt_xent(z, z, 0.05).item() == pytest.approx(2 * math.log(1 + 14 * math.exp(-20)), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computes_in_float32_under_autocast(dtype: torch.dtype):
    z_1, z_2 = (z.to(dtype) for z in projections(0, 16, 64))
    expected = nt_xent_numpy(z_1.float().numpy(), z_2.float().numpy(), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert nt_xent(z_1, z_2, 0.1).item() == pytest.approx(expected, rel=1e-5)
