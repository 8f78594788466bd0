"""Neighbours are exact: the same as a plain loop over the stored rows finds, ties included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.data.rows import Rows
from stages.learning.unit_half import unit_half
from stages.retrieval import exact, neighbors, shortlists
from stages.retrieval.exact import ExactFinder
from stages.retrieval.neighbors import nearest_neighbors
from stages.retrieval.shortlists import Bf16Search, Float32Search

CPU = torch.device("cpu")
Make = Callable[[Rows, int], ExactFinder]


def plain_search(rows: np.ndarray, k: int, at_most: float = 2.0) -> tuple[list[list[int]], list[list[float]]]:
    """By definition: every dot product, sorted by (similarity descending, number)."""
    found, similarities = [], []
    wide = rows.astype(float)
    for query in range(len(rows)):
        dots = [(-float(sum((wide[query] * other).tolist())), number) for number, other in enumerate(wide)]
        scored = sorted(pair for pair in dots if pair[1] != query and -pair[0] <= at_most)
        found.append([number for _, number in scored[:k]])
        similarities.append([-negative for negative, _ in scored[:k]])
    return found, similarities


def with_first(search: type) -> Make:
    def make(rows: Rows, k: int) -> ExactFinder:
        finder = ExactFinder(rows, k, [CPU])
        finder._searches[0] = search(rows, k + 1 + exact._MARGINS[0])
        return finder

    return make


def on_two_devices(rows: Rows, k: int) -> ExactFinder:
    return ExactFinder(rows, k, [CPU, CPU])


FINDERS = {"bf16": with_first(Bf16Search), "float32": with_first(Float32Search), "devices": on_two_devices}


@pytest.fixture(params=list(FINDERS))
def make(request: pytest.FixtureRequest) -> Make:
    return FINDERS[request.param]


def stored(folder: Path, rows: np.ndarray) -> Rows:
    np.save(folder / "rows.npy", rows)
    return Rows(folder / "rows.npy")


def search(folder: Path, rows: np.ndarray, k: int, make: Make) -> tuple[np.ndarray, np.ndarray]:
    file = stored(folder, rows)
    blocks = list(nearest_neighbors(file, k, make(file, k)))
    assert [found.first for found in blocks] == list(range(0, len(rows), neighbors.QUERIES))
    return np.vstack([found.numbers for found in blocks]), np.vstack([found.similarity for found in blocks])


def random_rows(seed: int, count: int, dim: int = 12, mean: float = 0.0) -> np.ndarray:
    """mean: length of what all rows have in common, where 1 is the length of what they have not."""
    generator = torch.Generator().manual_seed(seed)
    common = mean * torch.randn(dim, generator=generator)
    return unit_half(torch.randn(count, dim, generator=generator) + common)


def test_same_as_plain_search_in_small_blocks(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "QUERIES", 7)
    monkeypatch.setattr(exact, "_CHUNK", 3)
    monkeypatch.setattr(exact, "_MARGINS", (2, 4))
    monkeypatch.setattr(shortlists, "_BLOCK", 11)
    monkeypatch.setattr(shortlists, "_DEVICE_BLOCK", 11)
    monkeypatch.setattr(shortlists, "_TILE", 3)
    rows = random_rows(0, 45)
    found, similarity = search(tmp_path, rows, 5, make)
    expected, expected_similarity = plain_search(rows, 5)
    assert found.tolist() == expected
    np.testing.assert_array_equal(similarity, np.array(expected_similarity, np.float32))


@pytest.mark.parametrize("mean", [0.0, 1.0, 20.0])
def test_all_searches_agree_to_the_bit(tmp_path: Path, mean: float) -> None:
    """Also where all rows nearly are one, so that rounding hides most of what tells them apart."""
    rows = random_rows(1, 700, dim=64, mean=mean)
    results = [search(tmp_path, rows, 10, make) for make in FINDERS.values()]
    for found, similarity in results[1:]:
        np.testing.assert_array_equal(found, results[0][0])
        np.testing.assert_array_equal(similarity, results[0][1])


def test_same_as_faiss(tmp_path: Path) -> None:
    rows = random_rows(4, 900, dim=96)
    found, _ = search(tmp_path, rows, 10, lambda rows, k: ExactFinder(rows, k, [CPU]))
    wide = rows.astype(np.float32)
    _, peer = faiss.knn(wide, wide, 11, metric=faiss.METRIC_INNER_PRODUCT)
    assert np.mean([set(mine) == set(theirs[1:]) for mine, theirs in zip(found, peer, strict=True)]) > 0.99


@pytest.mark.parametrize("kind", [Bf16Search, Float32Search])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_scores_err_no_more_than_they_say(tmp_path: Path, kind: type, mean: float) -> None:
    rows = stored(tmp_path, random_rows(5, 400, dim=256, mean=mean))
    lists = kind(rows, 50)(rows.array[:100])
    wide = rows.array.astype(float)
    for query in range(100):
        there = lists.numbers[query] >= 0
        similarity = wide[lists.numbers[query, there]] @ wide[query]
        error = np.abs(lists.scores[query, there] + lists.shifts[query] - similarity).max()
        assert error <= lists.errors[query]
        missing = np.setdiff1d(np.arange(400), lists.numbers[query])
        least = lists.scores[query].min() + lists.shifts[query] + lists.errors[query]
        assert (wide[missing] @ wide[query]).max() <= least


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(20, 60), st.sampled_from(list(FINDERS)))
def test_many_equal_rows_are_ordered_by_number(
    tmp_path: Path, seed: int, distinct: int, count: int, finder: str
) -> None:
    """More equal rows than the shortlists hold: rough scores alone would choose among them as they like."""
    picks = np.random.default_rng(seed).integers(0, distinct, count)
    rows = random_rows(seed, distinct)[picks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_MARGINS", (2, 5))
        found, _ = search(tmp_path, rows, 3, FINDERS[finder])
    assert found.tolist() == plain_search(rows, 3)[0]


def test_a_duplicate_stays_and_self_goes(make: Make, tmp_path: Path) -> None:
    rows = random_rows(2, 6)
    rows[4] = rows[1]
    found, similarity = search(tmp_path, rows, 5, make)
    assert found[1, 0] == 4
    assert found[4, 0] == 1
    assert similarity[1, 0] == pytest.approx(1, abs=2e-3)
    assert all(number not in row for number, row in enumerate(found.tolist()))


def test_all_others_are_neighbors_when_k_is_one_less(make: Make, tmp_path: Path) -> None:
    found, _ = search(tmp_path, random_rows(3, 4), 3, make)
    assert [sorted(row) for row in found.tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.5, 0.9, 0.999]), st.sampled_from(list(FINDERS)))
def test_near_duplicates_are_passed_over(tmp_path: Path, seed: int, most: float, finder: str) -> None:
    rows = np.repeat(random_rows(seed, 20), 3, axis=0)
    file = stored(tmp_path, rows)
    (found,) = nearest_neighbors(file, 4, FINDERS[finder](file, 4), max_similarity=most)
    assert found.numbers.tolist() == plain_search(rows, 4, at_most=most)[0]
    nearest, similarity = plain_search(rows, 4)
    passed = [
        (row, number, np.float32(likeness))
        for row in range(60)
        for number, likeness in zip(nearest[row], similarity[row], strict=True)
        if likeness > most
    ]
    columns = found.duplicate_images, found.duplicates, found.duplicate_similarity
    assert list(zip(*columns, strict=True)) == passed


def test_too_many_near_duplicates_are_an_error(make: Make, tmp_path: Path) -> None:
    file = stored(tmp_path, np.repeat(random_rows(6, 2), 5, axis=0))
    with pytest.raises(ValueError, match=r"photo 0 has only 5 neighbours of the 6 .*max_similarity=0.99 .* Raise"):
        list(nearest_neighbors(file, 6, make(file, 6), max_similarity=0.99))


def test_unit_half_says_what_is_wrong_with_nan() -> None:
    with pytest.raises(ValueError, match="diverged"):
        unit_half(torch.tensor([[1.0, float("nan")]]))
