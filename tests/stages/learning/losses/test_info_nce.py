"""InfoNCE against the formula written out in NumPy, and against lightly's with a memory bank."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.learning.losses.info_nce import info_nce


def info_nce_numpy(q: np.ndarray, k: np.ndarray, queue: np.ndarray, temperature: float) -> float:
    """MoCo, equation 1, one query at a time: the softmax of 1 + K similarities at the place of the key."""
    total = 0.0
    for query, key in zip(q.astype(np.float64), k.astype(np.float64), strict=True):
        query, key = query / np.sqrt(query @ query), key / np.sqrt(key @ key)
        terms = np.exp(np.array([query @ key, *(query @ old for old in queue.astype(np.float64))]) / temperature)
        total -= np.log(terms[0] / terms.sum())
    return total / len(q)


def rows(seed: int, m: int, size: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    q = 4 * torch.randn(m, dim, generator=rng)
    k = q + torch.randn(m, dim, generator=rng)
    return q, k, F.normalize(torch.randn(size, dim, generator=rng), dim=1)


@pytest.mark.parametrize(("seed", "m", "size", "dim"), [(0, 1, 1, 2), (1, 7, 30, 5), (2, 16, 200, 128)])
@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_agrees_with_the_printed_formula(seed: int, m: int, size: int, dim: int, temperature: float):
    q, k, queue = rows(seed, m, size, dim)

    loss = info_nce(q, k, queue, temperature)

    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert loss.item() == pytest.approx(
        info_nce_numpy(q.numpy(), k.numpy(), queue.numpy(), temperature), rel=1e-5, abs=1e-6
    )


def test_loss_and_gradient_are_those_of_lightly_with_a_memory_bank():
    q, k, queue = rows(3, 12, 40, 16)
    theirs = pytest.importorskip("lightly.loss").NTXentLoss(temperature=0.2, memory_bank_size=(40, 16))
    theirs.memory_bank.bank.copy_(queue)
    ours_q, theirs_q = q.clone().requires_grad_(), q.clone().requires_grad_()

    loss, expected = info_nce(ours_q, k, queue, 0.2), theirs(theirs_q, k)
    loss.backward()
    expected.backward()

    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours_q.grad, theirs_q.grad)


def test_only_the_queries_learn():
    q, k, queue = (x.requires_grad_() for x in rows(0, 4, 8, 8))
    info_nce(q, k, queue, 0.2).backward()
    assert k.grad is None
    assert queue.grad is None
    assert q.grad.abs().sum() > 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), m=st.integers(1, 10), size=st.integers(1, 30), temperature=st.floats(0.05, 2.0))
def test_does_not_depend_on_the_order_of_rows_or_keys_or_the_length_of_embeddings(
    seed: int, m: int, size: int, temperature: float
):
    q, k, queue = rows(seed, m, size, 6)
    rng = torch.Generator().manual_seed(seed)
    order, queue_order = torch.randperm(m, generator=rng), torch.randperm(size, generator=rng)
    lengths = 0.01 + 100 * torch.rand(m, 1, generator=rng)
    expected = pytest.approx(info_nce(q, k, queue, temperature).item(), rel=1e-4, abs=1e-5)
    assert info_nce(q[order], k[order], queue, temperature).item() == expected
    assert info_nce(q, k, queue[queue_order], temperature).item() == expected
    assert info_nce(lengths * q, k / lengths, queue, temperature).item() == expected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), m=st.integers(1, 10), size=st.integers(1, 30))
def test_the_hotter_the_nearer_to_guessing(seed: int, m: int, size: int):
    """With a very high temperature, and with keys that are all alike, each of the K + 1 keys is as likely."""
    q, k, queue = rows(seed, m, size, 6)
    guessing = pytest.approx(math.log(size + 1), rel=1e-4)
    assert info_nce(q, k, queue, 1e5).item() == guessing
    assert info_nce(q, queue[:1].expand(m, -1), queue[:1].expand(size, -1), 0.2).item() == guessing


def test_extreme_similarities_stay_finite():
    """Similarities of +-1 at temperature 0.001, where exp overflows float32: the right key, then the opposite one."""
    q, queue = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    assert info_nce(q, q, queue, 0.001).item() == 0
    assert info_nce(q, -q, -queue, 0.001).item() == pytest.approx(2000)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computes_in_float32_under_autocast(dtype: torch.dtype):
    q, k, queue = rows(0, 16, 50, 64)
    q, k = q.to(dtype), k.to(dtype)
    expected = info_nce_numpy(q.float().numpy(), k.float().numpy(), queue.numpy(), 0.07)
    with torch.autocast("cpu", torch.bfloat16):
        assert info_nce(q, k, queue, 0.07).item() == pytest.approx(expected, rel=1e-5)
