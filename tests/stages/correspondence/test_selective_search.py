"""Our selective search beside OpenCV's, its order, and pictures that no one would search."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from stages.correspondence.filter import filter_boxes
from stages.correspondence.proposals.opencv_selective_search import make as make_opencv
from stages.correspondence.proposals.selective_search import make
from stages.data.catalog import Catalog

VARIANTS = ("default", "exact", "light")


def boxes_of(photo: np.ndarray, seed: int = 0, mode: str = "fast", variant: str = "default") -> np.ndarray:
    return make(mode=mode, variant=variant)(photo, 0, np.random.default_rng(seed))[0]


def opencv(photo: np.ndarray, mode: str = "fast") -> np.ndarray:
    return make_opencv(mode=mode)(photo, 0, np.random.default_rng(0))[0]


def shared(one: np.ndarray, other: np.ndarray) -> float:
    """The share of boxes that two sets have in common."""
    first, second = set(map(tuple, one.tolist())), set(map(tuple, other.tolist()))
    return len(first & second) / len(first | second)


def mean_best_overlap(wanted: np.ndarray, found: np.ndarray) -> float:
    """How well the best of `found` covers each wanted box: the mean IoU."""
    low = np.maximum(wanted[:, None, :2], found[None, :, :2])
    high = np.minimum(wanted[:, None, 2:], found[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (wanted, found)]
    return float((common / (areas[0][:, None] + areas[1] - common)).max(axis=1).mean())


@pytest.fixture(scope="module")
def photo(photo_catalog: Catalog) -> np.ndarray:
    return np.asarray(photo_catalog.decode(3))


@pytest.mark.parametrize("number", [0, 2, 5])
def test_exact_texture_gives_opencv_s_boxes(photo_catalog: Catalog, number: int) -> None:
    photo = np.asarray(photo_catalog.decode(number))
    assert shared(boxes_of(photo, variant="exact"), opencv(photo)) >= 0.98


@pytest.mark.parametrize("mode", ["quality", "single"])
def test_other_modes_give_opencv_s_boxes(photo: np.ndarray, mode: str) -> None:
    assert shared(boxes_of(photo, mode=mode, variant="exact"), opencv(photo, mode)) >= 0.98


@pytest.mark.parametrize("variant", ["default", "light"])
def test_other_variants_find_what_opencv_s_filter_keeps(shared_data: Path, variant: str) -> None:
    """The goals (0.95 and 0.85) are for full photos and many of them; these are two, made smaller."""
    overlaps = []
    for path in sorted((shared_data / "VOCdevkit" / "VOC2007" / "JPEGImages").glob("*.jpg"))[:2]:
        photo = np.asarray(Image.open(path).convert("RGB").resize((320, 240)))
        reference = opencv(photo)
        kept = filter_boxes(reference, min_side=48, max_aspect=3, max_iou=0.5, max_boxes=100)
        overlaps.append(mean_best_overlap(reference[kept], boxes_of(photo, variant=variant)))
    assert np.mean(overlaps) > {"default": 0.93, "light": 0.8}[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_follows_the_generator_not_the_history(photo: np.ndarray, variant: str) -> None:
    propose = make(variant=variant)

    def ranked(seed: int) -> list[list[int]]:
        return propose(photo, 0, np.random.default_rng(seed))[0].tolist()

    first = ranked(1)
    propose(photo[::-1, ::-1].copy(), 0, np.random.default_rng(9))
    assert ranked(1) == first
    other = ranked(2)
    assert other != first
    assert sorted(other) == sorted(first)


@pytest.mark.parametrize(("variant", "first", "last"), [("default", "small", "large"), ("light", "large", "small")])
def test_which_regions_come_first(photo: np.ndarray, variant: str, first: str, last: str) -> None:
    """OpenCV's order puts segments before what they were merged into, on average; the paper's does the opposite."""
    boxes = boxes_of(photo, variant=variant)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    quarter = len(boxes) // 4
    mean = {first: areas[:quarter].mean(), last: areas[-quarter:].mean()}
    assert mean["small"] < 0.5 * mean["large"]


def check(boxes: np.ndarray, scores: np.ndarray, height: int, width: int) -> None:
    assert boxes.dtype == np.int64
    assert scores.dtype == np.float32
    assert len(boxes) == len(scores) > 0
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= [width, height]).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert (np.diff(scores) <= 0).all()
    assert (scores <= 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", ["fast", "quality", "single"])
def test_boxes_of_a_photo_are_well_formed(photo: np.ndarray, mode: str, variant: str) -> None:
    boxes, scores = make(mode=mode, variant=variant)(photo, 0, np.random.default_rng(0))
    check(boxes, scores, *photo.shape[:2])
    assert len(boxes) > 20


@settings(max_examples=30, deadline=None)
@given(
    picture=st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
        lambda size: arrays(np.uint8, (*size, 3), elements=st.integers(0, 255))
    ),
    variant=st.sampled_from(VARIANTS),
    seed=st.integers(0, 2**32),
)
def test_any_picture_has_well_formed_boxes(picture: np.ndarray, variant: str, seed: int) -> None:
    boxes, scores = make(variant=variant)(picture, 0, np.random.default_rng(seed))
    check(boxes, scores, *picture.shape[:2])
    np.testing.assert_array_equal(boxes_of(picture, seed, variant=variant), boxes)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 500), (500, 1), (40, 3000)])
def test_extreme_shapes(shape: tuple[int, int], variant: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for picture in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        boxes, scores = make(variant=variant)(picture, 0, np.random.default_rng(0))
        check(boxes, scores, *shape)
        if picture is not noise:
            assert boxes.tolist() == [[0, 0, shape[1], shape[0]]]


def test_finds_objects_that_stand_out() -> None:
    """Three plain shapes on a plain ground: each must be boxed nearly exactly."""
    picture = np.full((150, 200, 3), 230, np.uint8)
    shapes = {(20, 20, 70, 90): (200, 30, 30), (100, 30, 180, 80): (20, 120, 40), (90, 100, 150, 140): (30, 40, 190)}
    for (x0, y0, x1, y1), color in shapes.items():
        picture[y0:y1, x0:x1] = color
    for variant in VARIANTS:
        boxes = boxes_of(picture, variant=variant)
        for shape in shapes:
            assert np.abs(boxes - shape).max(axis=1).min() <= 3


def test_it_runs_without_opencv_s_contrib_modules(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "ximgproc")
    assert len(boxes_of(photo, mode="single")) > 20


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"'slow'.*fast, quality, single"):
        make(mode="slow")
    with pytest.raises(ValueError, match=r"'heavy'.*default, exact, light"):
        make(variant="heavy")
