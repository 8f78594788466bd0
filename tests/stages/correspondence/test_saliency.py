"""Saliency: OpenCV's map, its mean in boxes, and photos in which nothing stands out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.correspondence.saliency import mean_saliency, saliency_map
from stages.data.catalog import Catalog


def test_map_is_opencv_s(photo_catalog: Catalog) -> None:
    photo = np.asarray(photo_catalog.decode(2))
    _, expected = cv2.saliency.StaticSaliencySpectralResidual.create().computeSaliency(photo[:, :, ::-1].copy())
    found = saliency_map(photo)
    np.testing.assert_array_equal(found, expected)
    assert found.shape == photo.shape[:2]
    assert found.dtype == np.float32
    assert 0 <= found.min() < 0.1
    assert 0.9 < found.max() <= 1


def test_a_thing_among_clutter_stands_out() -> None:
    photo = np.zeros((120, 160, 3), np.uint8)
    photo[::4], photo[:, ::4] = 255, 255  # the same all over: what the spectral residual leaves out
    photo[40:80, 60:110] = (200, 40, 30)
    thing, corner = mean_saliency(saliency_map(photo), np.array([[60, 40, 110, 80], [0, 0, 50, 40]]))
    assert thing > 3 * corner


def test_means_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(0)
    saliency = rng.random((30, 50), dtype=np.float32)
    boxes = np.array([[0, 0, 50, 30], [49, 29, 50, 30], [3, 7, 20, 25], [0, 5, 1, 6]])
    expected = [saliency[y0:y1, x0:x1].mean(dtype=float) for x0, y0, x1, y1 in boxes]
    np.testing.assert_allclose(mean_saliency(saliency, boxes), expected, rtol=1e-9)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_nothing_stands_out_in_a_photo_of_one_colour(value: int) -> None:
    assert not saliency_map(np.full((40, 60, 3), value, np.uint8)).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1), (3, 3000)])
def test_thin_photos(shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = saliency_map(photo)
    assert found.shape == shape
    assert np.isfinite(found).all()
