"""Felzenszwalb's segments: scikit-image's labels, on real photos and on whatever pictures hypothesis thinks of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import data
from skimage.segmentation import felzenszwalb as of_skimage
from skimage.util import img_as_float64

from stages.correspondence.masks.felzenszwalb import _smoothed, felzenszwalb, make
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import MAX_LABELS

SCALES = (50, 500, 1000, 1500)


@pytest.fixture
def stable_argsort(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NumPy's default sort leaves equals in an order that depends on the processor; scikit-image uses it."""
    felzenszwalb(np.zeros((2, 2, 3), np.uint8), (1,))  # numba compiles with NumPy as it is, or not at all
    argsort: Callable = np.argsort
    monkeypatch.setattr(np, "argsort", lambda values: argsort(values, kind="stable"))
    yield
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_labels_are_those_of_scikit_image(name: str, stable_argsort: None) -> None:
    photo = getattr(data, name)()[:240, :320]
    for scale, labels in zip(SCALES, felzenszwalb(photo, SCALES, min_sizes=(20, 500, 1000, 1500)), strict=True):
        expected = of_skimage(photo, scale=scale, min_size=20 if scale == 50 else scale)
        np.testing.assert_array_equal(labels, expected)


def test_labels_of_real_photos_are_those_of_scikit_image_as_it_is(photo_catalog: Catalog) -> None:
    for image in range(4):
        photo = photo_catalog.pixels(image)
        (labels,) = felzenszwalb(photo, (100,))
        np.testing.assert_array_equal(labels, of_skimage(photo, scale=100, min_size=100))


# Few levels, so that many edges cost the same.
PICTURES = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda size: arrays(np.uint8, (*size, 3), elements=st.sampled_from([0, 1, 128, 255]))
)


@given(PICTURES, st.sampled_from([0.0, 0.5, 0.8]), st.integers(1, 200), st.integers(1, 20))
@settings(max_examples=80, deadline=None)
def test_labels_of_any_picture_are_those_of_scikit_image_with_a_stable_sort(
    photo: np.ndarray, sigma: float, scale: int, min_size: int
) -> None:
    felzenszwalb(np.zeros((2, 2, 3), np.uint8), (1,))  # numba compiles with NumPy as it is, or not at all
    argsort: Callable = np.argsort
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "argsort", lambda values: argsort(values, kind="stable"))
        expected = of_skimage(photo, scale=scale, sigma=sigma, min_size=min_size)
    found = felzenszwalb(photo, (scale, 3 * scale), sigma, (min_size, min_size))
    np.testing.assert_array_equal(found[0], expected)


@given(PICTURES, st.sampled_from([0.1, 0.4, 0.8, 2.0]))
@settings(max_examples=40, deadline=None)
def test_smoothing_is_that_of_scipy_to_the_last_bit(photo: np.ndarray, sigma: float) -> None:
    expected = ndimage.gaussian_filter(img_as_float64(photo), sigma=(sigma, sigma, 0), mode="reflect")
    np.testing.assert_array_equal(_smoothed(photo, sigma), expected)


def test_each_scale_is_segmented_as_if_it_were_alone() -> None:
    photo = data.astronaut()[:200, :200]
    together = felzenszwalb(photo, (1500, 30, 300))
    for scale, labels in zip((1500, 30, 300), together, strict=True):
        np.testing.assert_array_equal(labels, felzenszwalb(photo, (scale,))[0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2)])
def test_thinnest_pictures(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (labels,) = felzenszwalb(noise, (10,), min_sizes=(1,))
    assert labels.shape == shape
    assert labels[0, 0] == 0


def test_black_is_one_segment_and_noise_has_none_below_the_least_size() -> None:
    assert felzenszwalb(np.zeros((40, 60, 3), np.uint8), (500,))[0].max() == 0
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    (labels,) = felzenszwalb(noise, (1,), min_sizes=(30,))
    assert np.bincount(labels.reshape(-1)).min() >= 30


def test_wrong_pictures_and_settings_are_told_apart() -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        felzenszwalb(np.zeros((5, 5), np.uint8), (100,))
    with pytest.raises(ValueError, match="2 scales and 1"):
        felzenszwalb(np.zeros((5, 5, 3), np.uint8), (100, 200), min_sizes=(3,))


def test_more_segments_than_16_bits_can_number_become_larger(
    photo_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"scales": (1,), "sigma": 0.0, "min_size": 1, "max_pixels": 4_000_000}
    _, segment = make(catalog=photo_catalog, **options)
    fine = int(segment(0).maps[0].max())
    monkeypatch.setattr("stages.correspondence.masks.felzenszwalb.MAX_LABELS", 1000)
    limited = segment(0).maps[0]
    assert 100 < limited.max() < 1000 < fine < MAX_LABELS
    width, height = photo_catalog.sizes[0].tolist()
    assert np.bincount(limited.reshape(-1)).min() >= width * height / 1000


def test_large_photos_are_segmented_in_a_smaller_copy(photo_catalog: Catalog) -> None:
    _, segment = make(catalog=photo_catalog, scales=(50,), sigma=0.8, min_size=20, max_pixels=5000)
    found = segment(0)
    assert found.maps[0].size <= 5200
    (layer,) = found.layers()
    assert layer.shape == tuple(photo_catalog.sizes[0][::-1])
