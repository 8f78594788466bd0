"""The filter keeps what a plain transcription of its definition keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.correspondence.filter import filter_boxes, iou

Box = tuple[int, int, int, int]


def plain_filter(boxes: list[Box], min_side: int, max_aspect: float, max_iou: float, max_boxes: int) -> list[int]:
    """ORL, footnote 2, in the order the official code works: one box after the other, then the first `max_boxes`."""
    kept: list[int] = []
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        w, h = x1 - x0, y1 - y0
        if w < min_side or h < min_side or w / h > max_aspect or h / w > max_aspect:
            continue
        overlaps = []
        for other in kept:
            a0, b0, a1, b1 = boxes[other]
            common = max(0, min(x1, a1) - max(x0, a0)) * max(0, min(y1, b1) - max(y0, b0))
            overlaps.append(common / (w * h + (a1 - a0) * (b1 - b0) - common))
        if not overlaps or max(overlaps) <= max_iou:
            kept.append(number)
    return kept[:max_boxes]


@st.composite
def box(draw: st.DrawFn) -> Box:
    x0, y0 = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    return x0, y0, x0 + draw(st.integers(1, 30)), y0 + draw(st.integers(1, 30))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(box(), max_size=40),
    st.integers(1, 15),
    st.sampled_from([1.0, 1.5, 3.0]),
    st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]),
    st.integers(1, 12),
)
def test_same_as_the_plain_filter(
    boxes: list[Box], min_side: int, max_aspect: float, max_iou: float, max_boxes: int
) -> None:
    kept = filter_boxes(
        np.array(boxes, np.int64).reshape(-1, 4),
        min_side=min_side,
        max_aspect=max_aspect,
        max_iou=max_iou,
        max_boxes=max_boxes,
    )
    assert kept.tolist() == plain_filter(boxes, min_side, max_aspect, max_iou, max_boxes)


@pytest.mark.parametrize(
    ("boxes", "kept"),
    [
        ([(0, 0, 96, 96)], [0]),
        ([(0, 0, 95, 96)], []),
        ([(0, 0, 288, 96)], [0]),
        ([(0, 0, 289, 96)], []),
        ([(0, 0, 200, 100), (0, 0, 100, 100)], [0, 1]),  # IoU exactly 0.5
        ([(0, 0, 198, 100), (0, 0, 100, 100)], [0]),
        ([], []),
    ],
)
def test_limits_are_inclusive(boxes: list[Box], kept: list[int]) -> None:
    rows = np.array(boxes, np.int64).reshape(-1, 4)
    assert filter_boxes(rows, min_side=96, max_aspect=3.0, max_iou=0.5, max_boxes=100).tolist() == kept


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_any_layout_of_whole_numbers(dtype: type[np.integer]) -> None:
    boxes = np.asfortranarray(np.array([(0, 0, 100, 100), (5, 5, 105, 105), (0, 0, 20, 20)], dtype))
    assert filter_boxes(boxes, min_side=10, max_aspect=3.0, max_iou=0.5, max_boxes=100).tolist() == [0, 2]


@given(box(), box())
def test_iou_counts_pixels(first: Box, second: Box) -> None:
    masks = []
    for x0, y0, x1, y1 in (first, second):
        mask = np.zeros((64, 64), bool)
        mask[y0:y1, x0:x1] = True
        masks.append(mask)
    expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert iou(np.array([first]), 0, np.array([first, second]), 1) == expected
