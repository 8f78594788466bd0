"""Colours as plain numbers, distributed as the references, and the generators that all views are drawn from."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torchvision.transforms import ColorJitter

from stages.data.views import BYOL_VIEW_1, PHOTOMETRIES, draw_view, part_rng, view_rng

SEEDS = st.integers(0, 2**32 - 1)


def test_view_rng_depends_on_seed_epoch_and_image_alone():
    def draw(*key: int) -> float:
        return view_rng(*key).random()

    assert draw(0, 1, 2) == draw(0, 1, 2)
    assert len({draw(0, 1, 2), draw(1, 1, 2), draw(0, 2, 2), draw(0, 1, 3), draw(0, 2, 1), draw(2, 1, 0)}) == 6


@pytest.mark.parametrize("make", [lambda: view_rng(3, 1, 4), lambda: np.random.default_rng(3)])
def test_parts_have_numbers_of_their_own(make):
    """Both kinds of generators that plans are drawn from: a sample's, and that of its stand-ins."""
    rng = make()
    first, second = part_rng(rng, 1), part_rng(rng, 2)
    drawn = [generator.random(1000) for generator in (rng, first, second)]
    np.testing.assert_array_equal(drawn[0], make().random(1000))
    np.testing.assert_array_equal(drawn[2], part_rng(make(), 2).random(1000))
    assert len(np.unique(drawn)) == 3000


def test_photometries_are_those_of_the_papers():
    """BYOL table 6 and appendix B; SimCLR appendix A; MoCo v2's code. One row a view, probabilities then strengths."""
    rows = {
        name: [
            (p.jitter_probability, p.gray_probability, p.blur_probability, p.solarize_probability,
             p.brightness, p.contrast, p.saturation, p.hue)
            for p in views
        ]
        for name, views in PHOTOMETRIES.items()
    }  # fmt: skip
    assert rows == {
        "byol": [(0.8, 0.2, 1.0, 0.0, 0.4, 0.4, 0.2, 0.1), (0.8, 0.2, 0.1, 0.2, 0.4, 0.4, 0.2, 0.1)],
        "simclr": [(0.8, 0.2, 0.5, 0.0, 0.8, 0.8, 0.8, 0.2)] * 2,
        "moco": [(0.8, 0.2, 0.5, 0.0, 0.4, 0.4, 0.4, 0.1)] * 2,
    }


@pytest.mark.parametrize("photometry", sorted({p for pair in PHOTOMETRIES.values() for p in pair}, key=str))
def test_operations_come_with_their_probabilities(photometry):
    rng, draws = np.random.default_rng(0), 4000
    views = [draw_view(rng, 0, (0, 0, 9, 9), 32, photometry) for _ in range(draws)]
    expected = {
        "flip": 0.5,
        "jitter": photometry.jitter_probability,
        "gray": photometry.gray_probability,
        "blur_sigma": photometry.blur_probability,
        "solarize": photometry.solarize_probability,
    }
    for name, probability in expected.items():
        share = np.mean([getattr(view, name) not in (None, False) for view in views])
        tolerance = 4 * math.sqrt(probability * (1 - probability) / draws)
        assert abs(share - probability) <= tolerance, name
    sigmas = [view.blur_sigma for view in views if view.blur_sigma is not None]
    assert 0.1 <= min(sigmas) < 0.2 < 1.9 < max(sigmas) <= 2.0


@pytest.mark.parametrize("strengths", [(0.4, 0.4, 0.2, 0.1), (0.8, 0.8, 0.8, 0.2), (1.5, 0.4, 0.2, 0.5)])
def test_jitter_factors_have_the_distribution_of_torchvision(strengths):
    torch.manual_seed(0)
    reference = ColorJitter(*strengths)
    ranges = (reference.brightness, reference.contrast, reference.saturation, reference.hue)
    theirs = [ColorJitter.get_params(*ranges) for _ in range(3000)]
    names = ("brightness", "contrast", "saturation", "hue")
    always = replace(BYOL_VIEW_1, jitter_probability=1.0, **dict(zip(names, strengths, strict=True)))
    rng = np.random.default_rng(0)
    ours = [draw_view(rng, 0, (0, 0, 9, 9), 32, always).jitter for _ in range(3000)]
    for place, name in enumerate(names):
        assert ks_2samp([getattr(o, name) for o in ours], [t[place + 1] for t in theirs]).pvalue > 1e-3, name
        positions = np.bincount([o.order.index(name) for o in ours], minlength=4)
        assert positions.min() > 650, name  # 750 expected


@settings(max_examples=25)
@given(seed=SEEDS)
def test_another_probability_changes_its_own_operation_alone(seed):
    never = replace(BYOL_VIEW_1, gray_probability=0.0)
    with_gray = draw_view(np.random.default_rng(seed), 0, (0, 0, 9, 9), 32, BYOL_VIEW_1)
    without = draw_view(np.random.default_rng(seed), 0, (0, 0, 9, 9), 32, never)
    assert replace(with_gray, gray=False) == without
