"""Alignment and uniformity against a transcription of the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stages.evaluation.estimates import resample_counts
from stages.evaluation.metrics.hypersphere import alignment, uniformity


@pytest.fixture
def views() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(40, 8))
    return first, first + 0.5 * rng.normal(size=first.shape)


def test_values_are_those_of_the_definitions(views: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (F.normalize(torch.from_numpy(each)) for each in views)
    assert alignment(*views, seed=0).value == pytest.approx((x - y).norm(dim=1).pow(2).mean().item(), abs=1e-6)
    expected = torch.pdist(x).pow(2).mul(-2).exp().mean().log().item()
    assert uniformity(views[0], seed=0).value == pytest.approx(expected, abs=1e-6)


def test_blocks_do_not_matter(views: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = uniformity(views[0], seed=0)
    monkeypatch.setattr("stages.evaluation.metrics.hypersphere._ROWS", 7)
    blocks = uniformity(views[0], seed=0)
    assert blocks.value == pytest.approx(whole.value, abs=1e-12)
    np.testing.assert_allclose(blocks.resamples, whole.resamples, atol=1e-12)


def test_a_resample_is_the_figure_of_the_photos_it_drew(views: tuple[np.ndarray, np.ndarray]) -> None:
    drawn = np.repeat(np.arange(40), resample_counts(40, 3)[11])
    x = views[0] / np.linalg.norm(views[0], axis=1, keepdims=True)
    pairs = [(i, j) for i in drawn for j in drawn if i != j]  # a photo that was drawn twice is no pair
    expected = np.log(np.mean([np.exp(-2 * np.square(x[i] - x[j]).sum()) for i, j in pairs]))
    assert uniformity(views[0], seed=3).resamples[11] == pytest.approx(expected, abs=1e-6)
    distances = np.square(x - views[1] / np.linalg.norm(views[1], axis=1, keepdims=True)).sum(axis=1)
    assert alignment(*views, seed=3).resamples[11] == pytest.approx(distances[drawn].mean(), abs=1e-6)


def test_known_cases() -> None:
    same = np.ones((50, 4))
    assert alignment(same, 2 * same, seed=0).value == pytest.approx(0, abs=1e-12)
    assert uniformity(same, seed=0).value == pytest.approx(0, abs=1e-6)
    assert alignment(same, -same, seed=0).value == pytest.approx(4)
    assert uniformity(np.eye(50), seed=0).value == pytest.approx(-4)
