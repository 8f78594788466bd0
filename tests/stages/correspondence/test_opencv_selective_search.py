"""OpenCV's selective search: a fixed set of boxes, in an order that the caller's generator decides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.correspondence.proposals.opencv_selective_search import make
from stages.data.catalog import Catalog


@pytest.fixture(scope="module")
def photo(photo_catalog: Catalog) -> np.ndarray:
    return np.asarray(photo_catalog.decode(3).resize((160, 120)))


def ranked(photo: np.ndarray, seed: int) -> list[list[int]]:
    return make()(photo, 0, np.random.default_rng(seed))[0].tolist()


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
    boxes, scores = make(mode=mode)(photo, 0, np.random.default_rng(0))
    assert boxes.dtype == np.int64
    assert scores.dtype == np.float32
    assert len(boxes) == len(scores) > 20
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= [160, 120]).all()
    assert (np.diff(scores) <= 0).all()


def test_an_unknown_mode_is_answered_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"'slow'.*fast, quality, single"):
        make(mode="slow")
