"""Graph segmentation: the same labels as OpenCV's, which does one scale at a time; and the sort below it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.correspondence.graph_segmentation import segment
from stages.correspondence.radix_sort import sort_packed
from stages.data.catalog import Catalog

SCALES = (150, 300, 450)


def smoothed(picture: np.ndarray, sigma: float = 0.8) -> np.ndarray:
    """(H, W, 3) uint8 -> (3, H, W) float32, as OpenCV smooths it."""
    blurred = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), sigma)
    return np.ascontiguousarray(blurred.transpose(2, 0, 1))


def opencv(picture: np.ndarray, scale: float, min_size: int, sigma: float = 0.8) -> np.ndarray:
    return cv2.ximgproc.segmentation.createGraphSegmentation(sigma, scale, min_size).processImage(picture)


def labels(picture: np.ndarray, scales: tuple[int, ...], min_size: int) -> list[np.ndarray]:
    parts, segments = segment(smoothed(picture), scales, min_size)
    return [segments[:, k][parts] for k in range(len(scales))]


@pytest.fixture(scope="module", params=[0, 3, 5])
def photo(photo_catalog: Catalog, request: pytest.FixtureRequest) -> np.ndarray:
    return np.asarray(photo_catalog.decode(request.param))


@pytest.mark.parametrize("space", [cv2.COLOR_RGB2HSV, cv2.COLOR_RGB2LAB])
def test_all_scales_at_once_give_opencv_s_labels(photo: np.ndarray, space: int) -> None:
    picture = cv2.cvtColor(photo, space)
    for found, scale in zip(labels(picture, SCALES, 100), SCALES, strict=True):
        np.testing.assert_array_equal(found, opencv(picture, scale, 100))


@pytest.mark.parametrize("seed", range(4))
def test_noise_gives_opencv_s_labels(seed: int) -> None:
    """Hardly any edges are merged before the scales disagree, so nearly all is decided atom by atom."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 90, 2)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    scales, min_size = (100, 700, 5000, 20000), int(rng.integers(1, 60))
    for found, scale in zip(labels(picture, scales, min_size), scales, strict=True):
        np.testing.assert_array_equal(found, opencv(picture, scale, min_size))


def test_parts_are_what_all_scales_have_in_common(photo: np.ndarray) -> None:
    parts, segments = segment(smoothed(photo), SCALES, 50)
    assert parts.dtype == segments.dtype == np.int32
    assert segments.shape == (parts.max() + 1, len(SCALES))
    assert len(np.unique(segments, axis=0)) == len(segments)
    for k in range(len(SCALES)):
        found = segments[:, k][parts]
        assert np.bincount(found.ravel()).min() >= 50
        _, first = np.unique(found, return_index=True)
        assert (np.diff(first) > 0).all()  # numbered in raster order


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (2, 2)])
@pytest.mark.parametrize("fill", [0, 255, None])
def test_tiny_pictures(shape: tuple[int, int], fill: int | None) -> None:
    rng = np.random.default_rng(0)
    picture = np.full((*shape, 3), fill, np.uint8) if fill is not None else rng.integers(0, 256, (*shape, 3), np.uint8)
    for found, scale in zip(labels(picture, SCALES, 10), SCALES, strict=True):
        np.testing.assert_array_equal(found, opencv(picture, scale, 10))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=300), st.integers(0, 32))
def test_sort_is_stable_and_looks_at_the_upper_half_only(keys: list[int], low: int) -> None:
    upper = np.array(keys, np.uint64) >> np.uint64(low)  # narrow keys need fewer passes
    packed = (upper << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)[::-1]
    expected = packed[np.argsort(upper, kind="stable")]
    found = sort_packed(packed.copy(), np.empty_like(packed), len(packed))
    np.testing.assert_array_equal(found, expected)
