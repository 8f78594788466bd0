"""DenseCL's correspondence and dense loss against the formulas written out in NumPy, and against lightly's parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.learning.losses.dense_info_nce import correspondence, dense_info_nce


def correspondence_numpy(f: np.ndarray, f_k: np.ndarray) -> np.ndarray:
    """DenseCL, section 3: for each place of each photo the place of the highest cosine, found by looking at all."""
    best = np.zeros(f.shape[:2], dtype=np.int64)
    for n in range(len(f)):
        for i, feature in enumerate(f[n].astype(np.float64)):
            cosines = [feature @ g / np.sqrt(feature @ feature) / np.sqrt(g @ g) for g in f_k[n].astype(np.float64)]
            best[n, i] = int(np.argmax(cosines))
    return best


def dense_loss_numpy(q: np.ndarray, k: np.ndarray, places: np.ndarray, queue: np.ndarray, temperature: float) -> float:
    """DenseCL, section 3: for each place the softmax of the positive among the positive and the queue."""
    terms = []
    for n in range(len(q)):
        for i, query in enumerate(q[n].astype(np.float64)):
            key = k[n, places[n, i]].astype(np.float64)
            query, key = query / np.sqrt(query @ query), key / np.sqrt(key @ key)
            positive = np.exp(query @ key / temperature)
            negative = np.sum(np.exp(queue.astype(np.float64) @ query / temperature))
            terms.append(-np.log(positive / (positive + negative)))
    return float(np.mean(terms))


def maps(seed: int, n: int, places: int, dim: int) -> tuple[Tensor, Tensor]:
    """Two views of the same places in another order, with noise."""
    rng = torch.Generator().manual_seed(seed)
    first = torch.randn(n, places, dim, generator=rng)
    order = torch.randperm(places, generator=rng)
    return first, 2 * first[:, order] + 0.3 * torch.randn(n, places, dim, generator=rng)


@pytest.mark.parametrize(("seed", "n", "places", "channels"), [(0, 1, 1, 3), (1, 3, 4, 2), (2, 5, 49, 32)])
def test_correspondence_agrees_with_the_printed_formula(seed: int, n: int, places: int, channels: int):
    f, f_k = maps(seed, n, places, channels)
    np.testing.assert_array_equal(correspondence(f, f_k).numpy(), correspondence_numpy(f.numpy(), f_k.numpy()))


@pytest.mark.parametrize(("seed", "n", "places", "dim"), [(0, 1, 1, 3), (1, 3, 4, 8), (2, 4, 9, 32)])
def test_the_loss_agrees_with_the_printed_formula(seed: int, n: int, places: int, dim: int):
    q, k = maps(seed, n, places, dim)
    where = torch.randint(0, places, (n, places), generator=torch.Generator().manual_seed(seed))
    queue = F.normalize(torch.randn(20, dim), dim=1)

    loss = dense_info_nce(q, k, where, queue, 0.2)

    assert loss.dtype == torch.float32
    expected = dense_loss_numpy(q.numpy(), k.numpy(), where.numpy(), queue.numpy(), 0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_agrees_with_the_parts_that_lightly_has():
    """lightly 1.6 has no DenseCL loss; its example matches with `select_most_similar` and takes NTXentLoss with a bank.

    Given the same bank that is the same loss. The example then fills the bank with the matched keys of each place,
    and not, as the paper and we do, with the average of the dense keys over a photo.
    """
    lightly_loss = pytest.importorskip("lightly.loss").NTXentLoss(temperature=0.2, memory_bank_size=(30, 8))
    utils = pytest.importorskip("lightly.models.utils")
    (f, f_k), (q, k) = maps(0, 3, 9, 16), maps(1, 3, 9, 8)
    queue = F.normalize(torch.randn(30, 8), dim=1)
    lightly_loss.memory_bank.bank.copy_(queue)

    loss = dense_info_nce(q, k, correspondence(f, f_k), queue, 0.2)

    matched = utils.select_most_similar(f, f_k, k)
    torch.testing.assert_close(loss, lightly_loss(q.flatten(0, 1), matched.flatten(0, 1)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), places=st.integers(1, 10))
def test_correspondence_follows_the_places_and_ignores_the_length_of_features(seed: int, places: int):
    f, f_k = maps(seed, 2, places, 8)
    rng = torch.Generator().manual_seed(seed)
    lengths = 0.1 + torch.rand(2, places, 1, generator=rng)
    order = torch.randperm(places, generator=rng)
    expected = correspondence(f, f_k)
    torch.testing.assert_close(correspondence(lengths * f, f_k / lengths), expected)
    torch.testing.assert_close(correspondence(f[:, order], f_k), expected[:, order])
    torch.testing.assert_close(order[correspondence(f, f_k[:, order])], expected)


def test_a_place_without_any_activation_does_not_stop_the_matching():
    f, f_k = maps(0, 1, 4, 8)
    f[0, 1] = 0
    f_k[0, 2] = 0
    places = correspondence(f, f_k)
    assert places.min() >= 0
    assert places.max() < 4
    assert not (places[0, [0, 2, 3]] == 2).any()


def test_only_the_queries_learn():
    q, k = (x.requires_grad_() for x in maps(0, 2, 4, 8))
    dense_info_nce(q, k, torch.zeros(2, 4, dtype=torch.int64), F.normalize(torch.randn(5, 8), dim=1), 0.2).backward()
    assert k.grad is None
    assert q.grad.abs().sum() > 0
