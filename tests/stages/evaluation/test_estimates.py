from __future__ import annotations

import numpy as np
import pytest

from stages.evaluation.estimates import RESAMPLES, Estimate, mean_estimate, resample_counts, weighted_mean


def test_resamples_are_seeded_and_as_large_as_the_sample():
    counts = resample_counts(30, seed=3)
    assert counts.shape == (RESAMPLES, 30)
    assert (counts.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(counts, resample_counts(30, seed=3))
    assert (counts != resample_counts(30, seed=4)).any()


def test_interval_of_a_share_agrees_with_the_binomial():
    hits = (np.arange(400) < 120).astype(float)
    estimate = Estimate(0.3, resamples=weighted_mean(hits, resample_counts(400, seed=0)))
    standard_error = np.sqrt(0.3 * 0.7 / 400)
    assert estimate.interval == pytest.approx((0.3 - 1.96 * standard_error, 0.3 + 1.96 * standard_error), abs=0.012)


def test_interval_is_moved_onto_a_biased_figure_and_stays_a_share():
    resamples = np.linspace(0.5, 0.7, 201)
    assert Estimate(0.4, resamples=resamples).interval == pytest.approx((0.305, 0.495))
    assert Estimate(0.05, resamples=resamples).interval == pytest.approx((0.0, 0.145))
    assert Estimate(0.4).interval is None


def test_difference_uses_the_same_resamples():
    noise = np.random.default_rng(0).normal(0, 0.1, RESAMPLES)
    better, worse = Estimate(0.55, resamples=0.55 + noise), Estimate(0.5, resamples=0.5 + noise)
    assert better.interval is not None
    assert better.interval[0] < 0.5, "alone, the two can't be told apart"
    assert better.minus(worse).interval == pytest.approx((0.05, 0.05))
    assert worse.minus(better).interval == pytest.approx((-0.05, -0.05))


def test_mean_skips_classes_that_a_resample_lacks():
    first = Estimate(0.2, 0.1, np.array([0.2, np.nan, np.nan]))
    second = Estimate(0.6, 0.3, np.array([0.4, 0.6, np.nan]))
    mean = mean_estimate([first, second])
    assert (mean.value, mean.chance) == pytest.approx((0.4, 0.2))
    np.testing.assert_allclose(mean.resamples, [0.3, 0.6, np.nan])
