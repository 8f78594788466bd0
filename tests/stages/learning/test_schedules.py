"""Durations and schedules against their formulas."""

from __future__ import annotations

import math

import pytest

from stages.learning.schedules import learning_rate, steps, target_tau


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("800 epochs", 800 * 118_287 // 512),
        (800, 800 * 118_287 // 512),
        ("1 epoch", 231),
        ("0.5 epochs", 115),
        ("20000 steps", 20_000),
        ("1 step", 1),
        ("1e6 images", 1953),
        ("512 images", 1),
        ("511 images", 0),
        (" 2.5e3 steps ", 2500),
        ("0 epochs", 0),
    ],
)
def test_durations_in_any_unit(duration: str | int, expected: int):
    assert steps(duration, images=118_287, batch_size=512) == expected


def test_durations_are_exact_where_floats_are_not():
    assert 0.29 * 100 < 29, "a float would lose a step"
    assert steps("0.29 epochs", images=100, batch_size=1) == 29


@pytest.mark.parametrize("wrong", ["800", "epochs", "-1 epochs", "5 hours", "1e-3 epochs", ""])
def test_what_is_no_duration_is_refused_with_examples(wrong: str):
    with pytest.raises(ValueError, match=r"not a duration.*'800 epochs'"):
        steps(wrong, images=10, batch_size=2)


def test_learning_rate_is_that_of_the_official_code():
    """ORL on COCO: peak 0.4, 185,600 steps of which 928 warm up; mmcv's LrUpdaterHook with a linear warm-up."""
    peak, total, warmup = 0.4, 185_600, 928
    for step in (0, 1, 464, 927, 928, 10_000, 92_800, 185_599):
        expected = 0.5 * peak * (1 + math.cos(math.pi * step / total))
        if step < warmup:
            expected *= 1 - (1 - step / warmup) * (1 - 1e-4)
        assert learning_rate(step, peak=peak, warmup=warmup, total=total) == pytest.approx(expected, rel=1e-12)


def test_learning_rate_without_warmup_starts_at_the_peak_and_falls_to_almost_nothing():
    rates = [learning_rate(step, peak=2.0, warmup=0, total=100) for step in range(100)]
    assert rates[0] == 2.0
    assert rates[50] == pytest.approx(1.0)
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 1e-3


def test_tau_rises_from_its_start_to_one():
    assert target_tau(0.0, 0.99) == pytest.approx(0.99)
    assert target_tau(1.0, 0.99) == pytest.approx(1.0)
    for progress in (0.1, 0.25, 0.9):
        expected = 1 - (1 - 0.996) * (math.cos(math.pi * progress) + 1) / 2  # BYOL, section 3.3
        assert target_tau(progress, 0.996) == pytest.approx(expected, rel=1e-12)
