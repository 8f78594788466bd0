from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from stages.evaluation.metrics.average_precision import average_precision, chance_average_precision

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


def eleven_points(scores: np.ndarray, positive: np.ndarray) -> float:
    """The definition of VOC2007 in fractions: the best precision at each recall of 0, 1/10, ... 1, or more."""
    points = []
    for threshold in set(scores):
        chosen = scores >= threshold
        points.append((Fraction(int(positive[chosen].sum()), int(positive.sum())), positive[chosen].mean()))
    return float(np.mean([max(p for r, p in points if r >= Fraction(tenth, 10)) for tenth in range(11)]))


@given(rankings)
def test_eleven_points_agree_with_the_definition(pairs):
    scores, positive = arrays(pairs)
    assert float(average_precision(scores, positive, interpolation="11_point")) == pytest.approx(
        eleven_points(scores, positive), abs=1e-12
    )


def test_eleven_points_count_a_recall_of_three_tenths():
    # 3 / 10 >= 0.1 * 3 is false in floats. Precision 1 at recalls to 0.3, then 10 / 20.
    positive = np.array([True] * 3 + [False] * 10 + [True] * 7)
    ap = average_precision(-np.arange(20.0), positive, interpolation="11_point")
    assert float(ap) == pytest.approx((4 * 1 + 7 * 0.5) / 11)


def test_eleven_points_of_resamples_and_of_chance():
    scores, positive = np.array([4.0, 3, 2, 1]), np.array([True, False, True, False])
    counts = np.array([[1, 1, 1, 1], [0, 2, 1, 0], [0, 4, 0, 0]])
    got = average_precision(scores, positive, counts, interpolation="11_point")
    expected = [eleven_points(np.repeat(scores, c), np.repeat(positive, c)) for c in counts[:2]]
    np.testing.assert_allclose(got, [*expected, np.nan])
    many = chance_average_precision(1000, 4000, np.random.default_rng(0), interpolation="11_point")
    assert many == pytest.approx(0.25, abs=0.05)


def test_an_unknown_interpolation_names_the_known_ones():
    with pytest.raises(ValueError, match="area, 11_point"):
        average_precision(np.ones(2), np.array([True, False]), interpolation="mean")  # type: ignore[arg-type]
