from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.evaluation import spread
from stages.evaluation.embeddings import Embeddings
from stages.learning.metrics import effective_rank


def rank(rows: np.ndarray) -> float:
    return effective_rank(torch.from_numpy(rows)).item()


def gaussian(rows: int, dims: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, dims)).astype(np.float32)


def test_a_whole_sphere():
    rows = gaussian(4000, 16)
    assert spread.relative_std(rows) == pytest.approx(1, abs=0.01)
    assert spread.mean_cosine(rows) == pytest.approx(0, abs=0.01)
    assert rank(rows) == pytest.approx(16, rel=0.01)


def test_one_point():
    rows = np.repeat(gaussian(1, 16), 50, axis=0)
    assert spread.relative_std(rows) == pytest.approx(0, abs=1e-3)
    assert spread.mean_cosine(rows) == pytest.approx(1, abs=1e-5)
    assert rank(rows) == pytest.approx(1, abs=1e-3)


def test_dimensional_collapse_shows_in_the_rank_alone():
    rows = gaussian(1000, 3) @ gaussian(3, 64)
    assert rank(rows) <= 3.01
    assert spread.relative_std(rows) > 0.9


@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.integers(1, 8))
def test_agrees_with_the_definitions(seed, rows, dims):
    embeddings = np.random.default_rng(seed).normal(size=(rows, dims)) + 0.5
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    pairs = [units[i] @ units[j] for i in range(rows) for j in range(rows) if i != j]
    assert spread.mean_cosine(embeddings) == pytest.approx(np.mean(pairs), abs=1e-5)
    deviations = np.sqrt(np.mean(units.std(axis=0) ** 2))
    assert spread.relative_std(embeddings) == pytest.approx(deviations * np.sqrt(dims), abs=1e-5)
    assert 1 - 1e-6 <= rank(embeddings) <= min(rows, dims) + 1e-4


def test_the_flag(photo_catalog):
    healthy, nearly_one = gaussian(50, 8), 1 + 0.01 * gaussian(50, 8)
    outcome = spread.evaluate(
        {"healthy": Embeddings(healthy, healthy), "collapsed": Embeddings(nearly_one, healthy)},
        photo_catalog, resize=72, crop=64,
    )  # fmt: skip
    assert {name: estimate.value for name, estimate in outcome.values["collapsed"].items()} == {
        "healthy": 0.0,
        "collapsed": 1.0,
    }
