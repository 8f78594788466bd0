"""Durations and schedules against their formulas."""

from __future__ import annotations

import math
from typing import get_args

import pytest

from stages.learning.schedules import Schedule, learning_rate, steps, target_tau


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


def test_cosine_is_that_of_orl_s_code():
    """ORL on COCO: peak 0.4, 185,600 steps of which 928 warm up; mmcv's LrUpdaterHook with a linear warm-up."""
    peak, total, warmup = 0.4, 185_600, 928
    for step in (0, 1, 464, 927, 928, 10_000, 92_800, 185_599):
        expected = 0.5 * peak * (1 + math.cos(math.pi * step / total))
        if step < warmup:
            expected *= 1 - (1 - step / warmup) * (1 - 1e-4)
        rate = learning_rate(step, schedule="cosine", peak=peak, warmup=warmup, total=total)
        assert rate == pytest.approx(expected, rel=1e-12)


def test_cosine_after_warmup_is_that_of_byol_s_and_simclr_s_code():
    """BYOL, 100 epochs at batch 4096: 31,200 steps, 3,120 of them warm up to 0.45 * 4096 / 256."""
    peak, total, warmup = 7.2, 31_200, 3_120
    for step in (0, 1, 1_560, 3_119):
        rate = learning_rate(step, schedule="cosine_after_warmup", peak=peak, warmup=warmup, total=total)
        assert rate == pytest.approx(peak * step / warmup, rel=1e-12)
    for step in (3_120, 10_000, 17_160, 31_199):
        expected = peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        rate = learning_rate(step, schedule="cosine_after_warmup", peak=peak, warmup=warmup, total=total)
        assert rate == pytest.approx(expected, rel=1e-12)


def test_piecewise_drops_after_96_and_98_percent():
    arguments = {"schedule": "piecewise", "peak": 3.2, "warmup": 10, "total": 1000}
    rates = [learning_rate(step, **arguments) for step in range(1000)]
    assert rates[:10] == pytest.approx([0.32 * step for step in range(10)])
    assert set(rates[10:960]) == {3.2}
    assert rates[960:980] == pytest.approx([0.32] * 20)
    assert rates[980:] == pytest.approx([0.032] * 20)


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_without_warmup_a_schedule_starts_at_the_peak_and_falls(schedule: Schedule):
    rates = [learning_rate(step, schedule=schedule, peak=2.0, warmup=0, total=100) for step in range(100)]
    assert rates[0] == 2.0
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] <= 0.02 + 1e-12


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_a_training_that_ends_while_it_warms_up_is_no_error(schedule: Schedule):
    for warmup in (5, 9):
        rates = [learning_rate(step, schedule=schedule, peak=1.0, warmup=warmup, total=5) for step in range(5)]
        assert all(0 <= rate < 1 for rate in rates)


def test_an_unknown_schedule_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'step' is not known.*cosine, cosine_after_warmup, piecewise"):
        learning_rate(0, schedule="step", peak=1.0, warmup=0, total=10)  # type: ignore[arg-type]


def test_tau_rises_from_its_start_to_one():
    assert target_tau(0.0, 0.99) == pytest.approx(0.99)
    assert target_tau(1.0, 0.99) == pytest.approx(1.0)
    for progress in (0.1, 0.25, 0.9):
        expected = 1 - (1 - 0.996) * (math.cos(math.pi * progress) + 1) / 2  # BYOL, section 3.3
        assert target_tau(progress, 0.996) == pytest.approx(expected, rel=1e-12)
