"""Indexes of FAISS: their neighbours are ranked exactly, and their recall is what it is measured to be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.data.rows import Rows
from stages.learning.unit_half import unit_half
from stages.retrieval.approximate import ApproximateFinder, Index, hnsw_index, ivf_index, measured_recall
from stages.retrieval.exact import ExactFinder
from stages.retrieval.neighbors import nearest_neighbors

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """3,000 rows in 40 clusters."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(40, 24, generator=generator)
    points = centres[torch.arange(3000) % 40] + 0.5 * torch.randn(3000, 24, generator=generator)
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    np.save(path, unit_half(points))
    return Rows(path)


def make(kind: str, rows: Rows, folder: Path, effort: int) -> Index:
    if kind == "ivf":
        return ivf_index(rows, probes=effort, folder=folder)
    return hnsw_index(rows, links=4, search=effort)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_more_effort_finds_more_and_all_of_it_is_ranked_exactly(kind: str, rows: Rows, tmp_path: Path) -> None:
    exact = ExactFinder(rows, 5, [CPU])
    recalls = []
    for effort in (1, 300):
        find = ApproximateFinder(rows, make(kind, rows, tmp_path, effort), exact)
        recalls.append(measured_recall(rows, find, exact, 5, sample=3000))
        (found,) = nearest_neighbors(rows, 5, find)
        wide = rows.array.astype(float)
        expected = np.einsum("nd,nkd->nk", wide, wide[found.numbers])
        np.testing.assert_array_equal(found.similarity, expected.astype(np.float32))
        assert (np.diff(found.similarity) <= 0).all()
        assert (found.numbers != np.arange(3000)[:, None]).all()
    assert recalls[0] < recalls[1]
    assert recalls[1] > 0.99


def test_recall_counts_what_is_found(rows: Rows) -> None:
    exact = ExactFinder(rows, 4, [CPU])

    def half(queries: np.ndarray, own: np.ndarray, k: int, at_most: float | None = None):
        similarity, found = exact(queries, own, k, at_most)
        found[:, 2:] = -1
        return similarity, found

    assert measured_recall(rows, half, exact, 4, sample=100) == 0.5
    assert measured_recall(rows, exact, exact, 4, sample=100) == 1


def test_near_duplicates_are_passed_over_by_wider_searches(rows: Rows, tmp_path: Path) -> None:
    exact = ExactFinder(rows, 5, [CPU])
    find = ApproximateFinder(rows, make("ivf", rows, tmp_path, 10_000), exact)  # looks into all lists
    (found,) = nearest_neighbors(rows, 5, find, max_similarity=0.6)
    (expected,) = nearest_neighbors(rows, 5, exact, max_similarity=0.6)
    np.testing.assert_array_equal(found.numbers, expected.numbers)
    assert found.similarity.max() <= 0.6


def test_without_faiss_the_remedy_is_named(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match=r"pip install faiss-cpu .* 'exact'"):
        make("ivf", rows, tmp_path, 1)
