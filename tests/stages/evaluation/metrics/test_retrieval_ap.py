"""Average precision of retrieval against scikit-learn, and its chance against all orders there are."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from stages.evaluation.metrics.retrieval_ap import average_precisions, chance_average_precision, similarities


@pytest.mark.parametrize("levels", [1000, 4])  # hardly any ties, and mostly ties
def test_agrees_with_scikit_learn(levels: int) -> None:
    rng = np.random.default_rng(levels)
    similarity = rng.integers(0, levels, (30, 50)) / levels
    relevant, allowed = rng.random((30, 50)) < 0.2, rng.random((30, 50)) < 0.8
    relevant[:, 0] = allowed[:, 0] = True
    expected = [
        average_precision_score(right[shown], scores[shown])
        for scores, right, shown in zip(similarity, relevant, allowed, strict=True)
    ]
    np.testing.assert_allclose(average_precisions(similarity, relevant, allowed), expected, atol=1e-6)


def test_perfect_is_1_and_nothing_to_find_is_no_number() -> None:
    relevant = np.array([[True, False, True], [False, False, False], [False, True, False]])
    allowed = np.array([[True, True, True], [True, True, True], [True, False, True]])
    found = average_precisions(relevant.astype(float), relevant, allowed)
    np.testing.assert_array_equal(found, [1, np.nan, np.nan])


def test_chance_is_the_mean_over_all_orders() -> None:
    for right in range(1, 6):
        relevant = np.arange(5) < right
        orders = np.array(list(permutations(range(5))), float)
        every = np.ones_like(orders, bool)
        expected = average_precisions(orders, np.tile(relevant, (len(orders), 1)), every).mean()
        chance = chance_average_precision(np.array([right]), np.array([5]))
        assert chance[0] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(chance_average_precision(np.array([0]), np.array([5])))[0]
    assert chance_average_precision(np.array([1]), np.array([1]))[0] == 1


def test_rows_that_are_all_alike_score_no_more_than_their_share() -> None:
    relevant = np.arange(20)[None] < 5
    found = average_precisions(np.zeros((1, 20)), relevant, np.ones((1, 20), bool))
    assert found[0] == 0.25


def test_similarities_are_cosines_of_all_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.evaluation.metrics.retrieval_ap._ENTRIES", 60)  # several blocks of both
    rows = np.random.default_rng(0).normal(size=(23, 6))
    queries = np.array([3, 0, 22, 7, 8])
    parts = list(similarities(rows, queries))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), queries)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(np.concatenate([s for _, s in parts]), units[queries] @ units.T, atol=1e-6)
