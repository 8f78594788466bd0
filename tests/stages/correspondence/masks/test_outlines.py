"""Masks as COCO writes them, against pycocotools where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.correspondence.masks.outlines import mask_of
from stages.data import indexing
from stages.data.catalog import Catalog
from stages.report import Report

MASKS = st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(lambda size: arrays(bool, size))


def even_odd(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    """The rule itself, a pixel at a time: count the edges that a ray from the centre to the left crosses."""
    mask = np.zeros((height, width), bool)
    for row, column in np.ndindex(height, width):
        x, y = column + 0.5, row + 0.5
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if (y0 <= y) != (y1 <= y):
                mask[row, column] ^= x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
    return mask


def test_a_square_is_what_it_encloses() -> None:
    square = mask_of([[1, 1, 4, 1, 4, 3, 1, 3]], (6, 5))
    assert square.sum() == 6
    assert square[1:3, 1:4].all()


@given(arrays(np.float64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.floats(-5, 15, width=16)))
@settings(max_examples=100, deadline=None)
def test_polygons_follow_the_even_odd_rule_inside_and_beyond_the_photo(corners: np.ndarray) -> None:
    np.testing.assert_array_equal(mask_of([corners.reshape(-1).tolist()], (9, 7)), even_odd(corners, 9, 7))


def test_polygons_of_an_object_are_united() -> None:
    parts = [[0, 0, 3, 0, 3, 3, 0, 3], [2, 2, 5, 2, 5, 5, 2, 5]]
    np.testing.assert_array_equal(mask_of(parts, (6, 6)), mask_of(parts[:1], (6, 6)) | mask_of(parts[1:], (6, 6)))


def test_runs_go_down_the_columns() -> None:
    mask = mask_of({"size": [3, 2], "counts": [1, 2, 3]}, (2, 3))
    np.testing.assert_array_equal(mask, [[False, False], [True, False], [True, False]])


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ("mask", "polygons or a dictionary"),
        ([[1, 2, 3]], "a polygon is a list"),
        ([[1, 2, float("nan"), 4, 5, 6]], "a polygon is a list"),
        ([["a", "b"]], "a polygon is a list"),
        ({"size": [4, 3], "counts": [12]}, r"size.*\[4, 3\].*height 3 and width 4"),
        ({"size": [3, 4], "counts": [11]}, "11 pixels for a mask of 4 x 3"),
        ({"size": [3, 4], "counts": [-1, 13]}, "whole numbers"),
        ({"size": [3, 4]}, "whole numbers"),
        ({"size": [3, 4], "counts": "é"}, "does not write"),
    ],
)
def test_what_is_no_mask_of_the_photo_is_refused(segmentation: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask_of(segmentation, (4, 3))


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_text_of_pycocotools_is_read_back(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools, the reference for COCO's masks")
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    np.testing.assert_array_equal(mask_of(text, mask.shape[::-1]), mask)


def test_objects_of_coco_are_those_of_pycocotools(shared_data: Path, tmp_path: Path) -> None:
    """Polygons differ along the outline, so less in large objects; crowds are run lengths and do not differ at all."""
    coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools, the reference for COCO's masks")
    root = shared_data / "coco"
    indexing.run(
        out=tmp_path, report=Report(), format="coco", root=root / "val2017", split=None, list_file=None, workers=1,
        annotations=root / "annotations" / "instances_val2017.json", min_side=32, max_rejected=0.5,
    )  # fmt: skip
    catalog = Catalog(tmp_path, root / "val2017")
    ious = []
    for image, text, crowd in catalog.labels[["image", "segmentation", "crowd"]].itertuples(index=False):
        width, height = catalog.sizes[image].tolist()
        segmentation = json.loads(text)
        found = mask_of(segmentation, (width, height))
        runs = coco.frPyObjects(segmentation, height, width)
        expected = coco.decode(coco.merge(runs) if isinstance(runs, list) else runs).astype(bool)
        if crowd:
            np.testing.assert_array_equal(found, expected)
        elif expected.sum() >= 32**2:
            ious.append((found & expected).sum() / (found | expected).sum())
    assert len(ious) > 100
    assert np.mean(ious) > 0.99
    assert min(ious) > 0.95
