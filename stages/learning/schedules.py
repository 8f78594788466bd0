"""Durations, and what changes in the course of a training. Pure functions of the step, so that a resume is exact."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Literal, get_args

Schedule = Literal["cosine", "cosine_after_warmup", "piecewise"]

_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?(?:[eE]\d+)?)\s*(epoch|step|image)s?\s*")
_WARMUP_START = 1e-4
_DROPS = (96, 98)  # percent of the steps


def steps(duration: str | int, *, images: int, batch_size: int) -> int:
    """Optimizer steps in `duration`, rounded down: a step is counted once its whole batch lies within the duration.

    Args:
        duration: "800 epochs", "20000 steps" or "1e6 images"; a bare int counts epochs.
        images: photos in an epoch.
        batch_size: photos in a step.

    Raises:
        ValueError: `duration` is none of these.
    """
    text = f"{duration} epochs" if isinstance(duration, int) else duration
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"'{duration}' is not a duration. Write a number and its unit: '800 epochs', '20000 steps' or '1e6 images'."
        )
    amount, unit = Fraction(match[1]), match[2]  # exact: 0.7 epochs of 10 photos are 7 photos
    if unit == "step":
        return math.floor(amount)
    return math.floor(amount * (images if unit == "epoch" else 1) / batch_size)


def learning_rate(step: int, *, schedule: Schedule, peak: float, warmup: int, total: int) -> float:
    """The learning rate of step k of K, with a warm-up over W steps, by one of three published rules.

    "cosine" (official ORL code): linear warm-up times a half cosine from `peak` to 0. The warm-up does not shift the
    cosine. That code holds the cosine constant within an epoch; here it falls with every step.

        lr(k) = peak * w(k) * (1 + cos(pi k / K)) / 2,   w(k) = 1 - (1 - k / W) (1 - 1e-4) for k < W, else 1

    "cosine_after_warmup" (official BYOL and SimCLR code): linear from 0, then the half cosine over what is left.

        lr(k) = peak * k / W for k < W, else peak * (1 + cos(pi (k - W) / (K - W))) / 2

    "piecewise" (DetCon, arXiv:2103.10957, appendix A.3, for COCO): linear from 0, then constant, divided by 10 after
    96 % and again after 98 % of the steps.

    Args:
        step: k, steps already taken, in [0, K).
        peak: the highest learning rate.
        warmup: W, in steps; 0 for none.
        total: K, in steps.

    Raises:
        ValueError: the schedule is none of these.
    """
    match schedule:
        case "cosine":
            warm = 1 - (1 - step / warmup) * (1 - _WARMUP_START) if step < warmup else 1.0
            return peak * warm * _half_cosine(step / total)
        case "cosine_after_warmup":
            return peak * (step / warmup if step < warmup else _half_cosine((step - warmup) / (total - warmup)))
        case "piecewise":
            drops = sum(100 * step >= percent * total for percent in _DROPS)
            return peak * (step / warmup if step < warmup else 0.1**drops)
    raise ValueError(f"schedule '{schedule}' is not known. Choose one of {', '.join(get_args(Schedule))}.")


def _half_cosine(progress: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * progress)) / 2


def target_tau(progress: float, tau_0: float) -> float:
    """EMA rate of a target network: tau = 1 - (1 - tau_0) (cos(pi k / K) + 1) / 2, from `tau_0` up to 1.

    Source: BYOL (arXiv:2006.07733), section 3.3.

    Args:
        progress: k / K in [0, 1], the share of the training that was done before this step.
        tau_0: rate at the start.
    """
    return 1 - (1 - tau_0) * _half_cosine(progress)
