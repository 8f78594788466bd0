"""Selective search: a fixed set of boxes, in an order that the caller's generator decides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.correspondence.proposals import proposals_by_name
from stages.correspondence.proposals.selective_search import propose
from stages.data.catalog import Catalog


@pytest.fixture(scope="module")
def photo(photo_catalog: Catalog) -> np.ndarray:
    return np.asarray(photo_catalog.decode(3).resize((160, 120)))


def ranked(photo: np.ndarray, seed: int, mode: str = "fast") -> list[list[int]]:
    return propose(photo, mode, np.random.default_rng(seed))[0].tolist()


def test_set_is_opencv_s(photo: np.ndarray) -> None:
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(photo[:, :, ::-1]))
    search.switchToSelectiveSearchFast()
    expected = {(x, y, x + w, y + h) for x, y, w, h in search.process().tolist()}
    boxes = ranked(photo, seed=0)
    assert {tuple(box) for box in boxes} == expected
    assert len(boxes) == len(expected)


def test_order_follows_the_generator_not_the_history(photo: np.ndarray) -> None:
    first = ranked(photo, seed=1)
    ranked(photo[::-1], seed=9)  # moves C's rand() on
    assert ranked(photo, seed=1) == first
    other = ranked(photo, seed=2)
    assert other != first
    assert sorted(other) == sorted(first)


@pytest.mark.parametrize("mode", ["fast", "quality", "single"])
def test_boxes_lie_inside_and_scores_descend(photo: np.ndarray, mode: str) -> None:
    boxes, scores = propose(photo, mode, np.random.default_rng(0))
    assert boxes.dtype == np.int64
    assert scores.dtype == np.float32
    assert len(boxes) == len(scores) > 20
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= [160, 120]).all()
    assert (np.diff(scores) <= 0).all()


def test_finds_objects_that_stand_out() -> None:
    """Three plain shapes on a plain ground: each must be boxed nearly exactly."""
    picture = np.full((150, 200, 3), 230, np.uint8)
    shapes = {(20, 20, 70, 90): (200, 30, 30), (100, 30, 180, 80): (20, 120, 40), (90, 100, 150, 140): (30, 40, 190)}
    for (x0, y0, x1, y1), colour in shapes.items():
        picture[y0:y1, x0:x1] = colour
    boxes = np.array(ranked(picture, seed=0))
    for shape in shapes:
        assert np.abs(boxes - shape).max(axis=1).min() <= 3


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_photo_of_one_grey_still_has_a_box(value: int) -> None:
    boxes = ranked(np.full((40, 60, 3), value, np.uint8), seed=0)
    assert [0, 0, 60, 40] in boxes


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"'slow'.*fast, quality, single"):
        propose(np.zeros((40, 40, 3), np.uint8), "slow", np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"'bing'.*opencv_selective_search"):
        proposals_by_name("bing")
