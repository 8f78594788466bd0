from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from stages.evaluation.average_precision import average_precision, chance_average_precision

# Few distinct scores, so that ties are common.
rankings = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=30).filter(
    lambda pairs: any(positive for _, positive in pairs)
)


def by_hand(scores: np.ndarray, positive: np.ndarray) -> float:
    """The definition, threshold by threshold: sum of recall steps times the best precision at this recall or more."""
    points = []
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        points.append((positive[chosen].sum() / positive.sum(), positive[chosen].mean()))
    area, recall_before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - recall_before) * max(precision for r, precision in points if r >= recall)
        recall_before = recall
    return area


def arrays(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in pairs], dtype=float), np.array([p for _, p in pairs], dtype=bool)


@given(rankings)
def test_agrees_with_the_definition_and_bounds_the_step_curve(pairs):
    scores, positive = arrays(pairs)
    ap = float(average_precision(scores, positive))
    assert ap == pytest.approx(by_hand(scores, positive))
    assert average_precision_score(positive, scores) - 1e-12 <= ap <= 1


@given(rankings, st.randoms(use_true_random=False))
def test_does_not_depend_on_the_order_of_the_photos(pairs, random):
    scores, positive = arrays(pairs)
    order = list(range(len(scores)))
    random.shuffle(order)
    assert average_precision(scores[order], positive[order]) == pytest.approx(average_precision(scores, positive))


@given(rankings, st.data())
def test_counts_mean_repeated_photos(pairs, data):
    scores, positive = arrays(pairs)
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores))))
    got = average_precision(scores, positive, counts[None, :])[0]
    repeated = np.repeat(positive, counts)
    if repeated.any():
        assert got == pytest.approx(by_hand(np.repeat(scores, counts), repeated))
    else:
        assert np.isnan(got)


def test_perfect_and_worst_ranking():
    positive = np.array([True, True, False, False])
    assert average_precision(np.array([4.0, 3, 2, 1]), positive) == 1
    assert average_precision(np.array([1.0, 2, 3, 4]), positive) == pytest.approx(0.5)


def test_the_envelope_lifts_a_dip():
    # Ranked: no, yes, yes. Precisions at the positives are 1/2 and 2/3; the envelope takes 2/3 for both.
    scores, positive = np.array([3.0, 2, 1]), np.array([False, True, True])
    assert average_precision(scores, positive) == pytest.approx(2 / 3)


def test_chance_is_above_the_share_of_positives_and_near_it_for_many():
    few = chance_average_precision(5, 200, np.random.default_rng(0))
    many = chance_average_precision(1000, 4000, np.random.default_rng(0))
    assert 0.025 < few < 0.1
    assert many == pytest.approx(0.25, abs=0.02)
