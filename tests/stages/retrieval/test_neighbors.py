"""Neighbours are exact: the same as a plain loop over the stored rows finds, ties included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.learning.unit_half import unit_half
from stages.retrieval import neighbors
from stages.retrieval.neighbors import nearest_neighbors

CPU = torch.device("cpu")


def plain_search(rows: np.ndarray, k: int) -> tuple[list[list[int]], list[list[float]]]:
    """By definition: every dot product, sorted by (similarity descending, number)."""
    found, similarities = [], []
    for query in range(len(rows)):
        scored = []
        for other in range(len(rows)):
            if other != query:
                dot = sum(float(a) * float(b) for a, b in zip(rows[query], rows[other], strict=True))
                scored.append((-dot, other))
        scored.sort()
        found.append([number for _, number in scored[:k]])
        similarities.append([-negative for negative, _ in scored[:k]])
    return found, similarities


def search(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    blocks = list(nearest_neighbors(rows, k, CPU))
    assert [first for first, _, _ in blocks] == list(range(0, len(rows), neighbors._QUERIES))
    return np.vstack([found for _, found, _ in blocks]), np.vstack([similarity for _, _, similarity in blocks])


def random_rows(seed: int, count: int, dim: int = 12) -> np.ndarray:
    return unit_half(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(params=["faiss", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(neighbors.importlib.util, "find_spec", lambda name: None)
    return request.param


def test_same_as_plain_search_in_small_blocks(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_QUERIES", 7)
    monkeypatch.setattr(neighbors, "_BASE", 11)
    rows = random_rows(0, 45)
    found, similarity = search(rows, 5)
    expected, expected_similarity = plain_search(rows, 5)
    assert found.tolist() == expected
    np.testing.assert_array_equal(similarity, np.float32(expected_similarity))


def test_both_backends_agree_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(1, 300, dim=64)
    with_faiss = search(rows, 10)
    monkeypatch.setattr(neighbors.importlib.util, "find_spec", lambda name: None)
    with_torch = search(rows, 10)
    np.testing.assert_array_equal(with_faiss[0], with_torch[0])
    np.testing.assert_array_equal(with_faiss[1], with_torch[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(20, 60))
def test_many_equal_rows_are_ordered_by_number(seed: int, distinct: int, count: int) -> None:
    """More equal rows than the shortlist holds: the first search alone would choose among them as it likes."""
    picks = np.random.default_rng(seed).integers(0, distinct, count)
    rows = random_rows(seed, distinct)[picks]
    found, _ = search(rows, 3)
    assert found.tolist() == plain_search(rows, 3)[0]


def test_a_duplicate_stays_and_self_goes(backend: str) -> None:
    rows = random_rows(2, 6)
    rows[4] = rows[1]
    found, similarity = search(rows, 5)
    assert found[1, 0] == 4
    assert found[4, 0] == 1
    assert similarity[1, 0] == pytest.approx(1, abs=2e-3)
    assert all(number not in row for number, row in enumerate(found.tolist()))


def test_all_others_are_neighbors_when_k_is_one_less(backend: str) -> None:
    found, _ = search(random_rows(3, 4), 3)
    assert [sorted(row) for row in found.tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_unit_half_says_what_is_wrong_with_nan() -> None:
    with pytest.raises(ValueError, match="diverged"):
        unit_half(torch.tensor([[1.0, float("nan")]]))
