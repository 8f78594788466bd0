"""Shared neighbours against sets made by plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from stages.evaluation.metrics.shared_neighbors import shared_neighbors


def nearest(rows: np.ndarray, query: int, k: int) -> set[int]:
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    order = sorted((row for row in range(len(rows)) if row != query), key=lambda row: -(units[row] @ units[query]))
    return set(order[:k])


def test_counts_what_both_name() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(30, 5))
    other = one + 0.7 * rng.normal(size=one.shape)
    queries = np.arange(0, 30, 3)
    expected = np.mean([len(nearest(one, query, 4) & nearest(other, query, 4)) / 4 for query in queries])
    found = shared_neighbors(one, other, queries, 4, seed=0)
    assert found.value == pytest.approx(expected, abs=1e-6)
    assert 0 < found.value < 1
    assert found.resamples is not None


def test_itself_shares_all_and_another_space_what_guessing_does() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(400, 16)), rng.normal(size=(400, 9))
    every = np.arange(400)
    assert shared_neighbors(one, 3 * one, every, 20, seed=0).value == 1
    found = shared_neighbors(one, other, every, 20, seed=0)
    assert found.chance == pytest.approx(20 / 399)
    assert found.value == pytest.approx(found.chance, abs=0.01)


@pytest.mark.parametrize(("rows", "k"), [(9, 3), (10, 10), (10, 0)])
def test_what_cannot_be_compared_is_refused(rows: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"{k} nearest neighbours among 10 and {rows}"):
        shared_neighbors(np.ones((10, 2)), np.ones((rows, 2)), np.arange(2), k, seed=0)
