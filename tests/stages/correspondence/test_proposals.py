"""What all proposals have in common: their form, their determinism, and odd photos that none may stumble over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.correspondence.proposals import Propose, make_proposals
from stages.correspondence.proposals.ranking import ranked
from stages.data.catalog import Catalog

SETTINGS: dict[str, dict[str, Any]] = {
    "selective_search": {"mode": "fast", "variant": "default"},
    "opencv_selective_search": {"mode": "fast"},
    "bing": {},
    "edge_boxes": {"model": None, "alpha": 0.65, "beta": 0.75, "max_proposals": 200},
    "grid": {"cells": (1, 2, 3)},
    "random": {"count": 50, "scale": (0.05, 0.8), "ratio": (0.5, 2.0)},
    "learned": {"clusters": (2, 4), "side": 128},
}

MakeByName = Callable[[str], Propose]


@pytest.fixture
def make_by_name(photo_catalog: Catalog, encoder: Path, request: pytest.FixtureRequest) -> MakeByName:
    def make(name: str) -> Propose:
        settings = dict(SETTINGS[name])
        if name == "bing":
            settings["models"] = request.getfixturevalue("shared_data") / "bing"
        return make_proposals(name, catalog=photo_catalog, encoder=encoder, device="cpu", **settings)

    return make


def check(photo: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> None:
    assert boxes.dtype == np.int64
    assert scores.dtype == np.float32
    assert boxes.shape == (len(scores), 4)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= photo.shape[1::-1]).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("name", SETTINGS)
def test_boxes_of_a_photo(name: str, make_by_name: MakeByName, photo_catalog: Catalog) -> None:
    photo = np.array(photo_catalog.decode(3).resize((200, 150)))
    before = photo.copy()
    boxes, scores = make_by_name(name)(photo, 3, np.random.default_rng(0))
    check(photo, boxes, scores)
    assert len(boxes) > 5
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize("name", SETTINGS)
def test_order_follows_the_generator_not_the_history(
    name: str, make_by_name: MakeByName, photo_catalog: Catalog
) -> None:
    photo = np.array(photo_catalog.decode(1).resize((120, 90)))
    propose = make_by_name(name)
    first = propose(photo, 1, np.random.default_rng(5))
    propose(photo[::-1].copy(), 0, np.random.default_rng(6))
    for again in (propose(photo, 1, np.random.default_rng(5)), make_by_name(name)(photo, 1, np.random.default_rng(5))):
        np.testing.assert_array_equal(again[0], first[0])
        np.testing.assert_array_equal(again[1], first[1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (60, 1), (5, 7), (16, 16), (20, 300)])
@pytest.mark.parametrize("kind", ["black", "noise"])
@pytest.mark.parametrize("name", SETTINGS)
def test_tiny_thin_black_and_noisy_photos(
    name: str, kind: str, shape: tuple[int, int], make_by_name: MakeByName
) -> None:
    photo = np.zeros((*shape, 3), np.uint8)
    if kind == "noise":
        photo[:] = np.random.default_rng(0).integers(0, 256, photo.shape)
    check(photo, *make_by_name(name)(photo, 0, np.random.default_rng(0)))


def test_unknown_names_are_answered_with_the_known(photo_catalog: Catalog) -> None:
    with pytest.raises(ValueError, match=r"'mcg'.*selective_search, .*bing, .*learned"):
        make_proposals("mcg", catalog=photo_catalog, encoder=None, device="cpu")


def test_ranking_keeps_the_best_of_equal_boxes_and_drops_empty_ones() -> None:
    boxes = [(0, 0, 5, 5), (1, 1, 2, 2), (0, 0, 5, 5), (3, 3, 3, 9), (2, 2, 4, 4)]
    kept, scores = ranked(np.array(boxes), np.array([0.1, 0.7, 0.9, 1.0, 0.7]))
    assert kept.tolist() == [[0, 0, 5, 5], [1, 1, 2, 2], [2, 2, 4, 4]]
    np.testing.assert_allclose(scores, [0.9, 0.7, 0.7])
    check(np.zeros((9, 9, 3)), *ranked([], []))
