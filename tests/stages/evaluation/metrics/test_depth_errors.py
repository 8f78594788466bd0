from __future__ import annotations

import math

import numpy as np
import pytest

from stages.evaluation.estimates import resample_counts
from stages.evaluation.metrics import depth_errors


def estimates(pairs: list[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> dict:
    sums = np.stack([depth_errors.error_sums(*pair) for pair in pairs])
    return depth_errors.estimates(sums, sums[0], seed=seed)


def test_by_hand():
    predicted, measured = np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.0, 2.5, 2.0, 1.0])
    values = {name: estimate.value for name, estimate in estimates([(predicted, measured)]).items()}
    # Ratios 1, 1.25, 2 and 3, against 1.25, 1.5625 and 1.953125: 1.25 is not less than 1.25.
    assert values["pct_1"] == 1 / 4
    assert values["pct_2"] == values["pct_3"] == 2 / 4
    assert values["rms"] == pytest.approx(math.sqrt((0 + 0.25 + 4 + 4) / 4))
    assert values["rel"] == pytest.approx((0 + 0.2 + 1 + 2) / 4)
    assert values["log10"] == pytest.approx(math.log10(1.25 * 2 * 3) / 4)


def test_as_a_plain_loop_over_all_pixels():
    rng = np.random.default_rng(0)
    pairs = [
        (rng.uniform(0.5, 8, n).astype(np.float32), rng.uniform(0.5, 8, n).astype(np.float32)) for n in (30, 7, 90)
    ]
    pixels = [(float(d), float(t)) for predicted, measured in pairs for d, t in zip(predicted, measured, strict=True)]
    n = len(pixels)
    expected = {f"pct_{k}": sum(max(d / t, t / d) < 1.25**k for d, t in pixels) / n for k in (1, 2, 3)}
    expected |= {
        "rms": math.sqrt(sum((d - t) ** 2 for d, t in pixels) / n),
        "rel": sum(abs(d - t) / t for d, t in pixels) / n,
        "log10": sum(abs(math.log10(d) - math.log10(t)) for d, t in pixels) / n,
    }
    found = {name: estimate.value for name, estimate in estimates(pairs).items()}
    assert found == pytest.approx(expected, abs=1e-9)


def test_perfect_depth():
    measured = np.array([0.7, 3.0, 9.9])
    values = {name: estimate.value for name, estimate in estimates([(measured, measured)]).items()}
    assert values == {"pct_1": 1, "pct_2": 1, "pct_3": 1, "rms": 0, "rel": 0, "log10": 0}


def test_depth_behind_the_camera_is_as_wrong_as_can_be_and_no_error():
    values = {name: e.value for name, e in estimates([(np.array([-5.0, 0.0]), np.array([1.0, 1.0]))]).items()}
    assert values["pct_3"] == 0
    assert values["log10"] == pytest.approx(3)


def test_resamples_are_those_of_photos_drawn_again():
    rng = np.random.default_rng(1)
    pairs = [(rng.uniform(1, 4, 20), rng.uniform(1, 4, 20)) for _ in range(4)]
    values = estimates(pairs, seed=5)
    for number, drawn in enumerate(resample_counts(4, seed=5)[:5]):
        again = estimates([pair for pair, times in zip(pairs, drawn, strict=True) for _ in range(times)])
        for name in depth_errors.NAMES:
            assert values[name].resamples[number] == pytest.approx(again[name].value, abs=1e-12)


def test_frames_without_a_measured_pixel_are_refused():
    with pytest.raises(ValueError, match="no pixel of the test photos has a depth"):
        estimates([(np.empty(0), np.empty(0))])
