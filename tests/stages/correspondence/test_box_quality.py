"""Recall and average best overlap: as plain loops over pixels say, for any cut into shards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.correspondence.box_quality import BoxQuality, best_overlaps, objects_by_photo

Box = tuple[int, int, int, int]


@st.composite
def box(draw: st.DrawFn) -> Box:
    x0, y0 = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    return x0, y0, x0 + draw(st.integers(1, 20)), y0 + draw(st.integers(1, 20))


def pixels(corners: Box) -> set[tuple[int, int]]:
    x0, y0, x1, y1 = corners
    return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}


@settings(max_examples=50, deadline=None)
@given(st.lists(box(), max_size=4), st.lists(box(), max_size=8))
def test_best_overlaps_count_pixels(objects: list[Box], boxes: list[Box]) -> None:
    best = best_overlaps(np.array(objects, float).reshape(-1, 4), np.array(boxes, int).reshape(-1, 4))
    assert best.shape == (len(objects), 3)
    for row, thing in zip(best, map(pixels, objects), strict=True):
        expected = max((len(thing & pixels(each)) / len(thing | pixels(each)) for each in boxes), default=0.0)
        np.testing.assert_allclose(row, expected, rtol=1e-12)  # fewer than 100 boxes: all columns are of all


def test_objects_may_end_within_pixels() -> None:
    best = best_overlaps(np.array([[0.5, 0.0, 2.5, 1.0]]), np.array([[0, 0, 2, 1]]))
    np.testing.assert_allclose(best, 1.5 / 2.5)


def test_only_the_first_boxes_count() -> None:
    boxes = np.tile([500, 500, 501, 501], (700, 1))
    boxes[[99, 100, 499, 500]] = [[0, 0, 10, 20], [0, 0, 10, 40], [0, 0, 10, 60], [0, 0, 10, 100]]
    best = best_overlaps(np.array([[0.0, 0.0, 10.0, 100.0]]), boxes)
    np.testing.assert_allclose(best, [[0.2, 0.6, 1.0]])


def test_metrics_of_two_photos_by_hand() -> None:
    first, second = BoxQuality(), BoxQuality()
    first.add(np.array([[0, 0, 10, 10], [50, 50, 60, 60]], float), np.array([[0, 0, 10, 5], [0, 0, 10, 4]]))
    second.add(np.array([[0, 0, 10, 10]], float), np.array([[0, 0, 10, 4], [0, 0, 10, 9]]))
    second.add(np.empty((0, 4)), np.array([[0, 0, 10, 4]]))
    both = first + second
    assert both.objects == 3
    figures = both.metrics()
    assert figures["labelled_objects"] == 3
    for name in ("100", "500", "all"):  # IoU 0.5 (which counts), 0 and 0.9
        assert figures[f"recall_{name}"] == pytest.approx(2 / 3)
        assert figures[f"abo_{name}"] == pytest.approx(1.4 / 3)


def test_crowds_and_difficult_objects_do_not_count() -> None:
    labels = pd.DataFrame(
        [(5, 0, 0, 1, 1, False, False), (5, 0, 0, 2, 2, True, False), (7, 0, 0, 3, 3, False, False),
         (7, 0, 0, 4, 4, False, True), (7, 0, 0, 5, 5, False, False)],
        columns=["image", "x0", "y0", "x1", "y1", "crowd", "difficult"],
    )  # fmt: skip
    objects = objects_by_photo(labels, 4, 8)
    assert [each[:, 2].tolist() for each in objects] == [[], [1.0], [], [3.0, 5.0]]
    assert all(each.dtype == np.float64 and each.shape[1] == 4 for each in objects)
