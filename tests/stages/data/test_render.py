"""Pixels of a view: torchvision's within stated tolerances, on real photographs; cut out of the right place."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision_views import on_pil, on_tensors

from stages.data.decode import decode_pixels
from stages.data.demo_photos import library_photos
from stages.data.policies import ImageViews
from stages.data.render import Photo, crop_window, largest_reduction, render
from stages.data.views import PHOTOMETRIES, Photometry, View, draw_view, view_rng

PLAIN = View(image=0, box=(0, 0, 1, 1), size=1, flip=False, jitter=None, gray=False, blur_sigma=None, solarize=False)
PATHS = {path.stem: path for path in library_photos()}
VARIANTS = sorted({photometry for pair in PHOTOMETRIES.values() for photometry in pair}, key=str)


def load(path: Path, reduction: int = 1) -> np.ndarray:
    return decode_pixels(path.read_bytes(), reduction)


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> list[np.ndarray]:
    """32 photos of COCO and VOC, (H, W, 3) uint8, both sides at least 240."""
    folders = shared_data / "coco" / "train2017", shared_data / "VOCdevkit" / "VOC2007" / "JPEGImages"
    found = []
    for folder in folders:
        pictures = (load(path) for path in sorted(folder.glob("*.jpg")))
        found += itertools.islice((picture for picture in pictures if min(picture.shape[:2]) >= 240), 16)
    return found


def draw(view: View, pixels: np.ndarray, **options) -> torch.Tensor:
    return render({"view": view}, lambda image, reduction: Photo(pixels), **options)["view"]


def difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first.int() - second.int()).abs().float()


def central(pixels: np.ndarray, side: int, **fields) -> View:
    """A view whose crop is `side` x `side` pixels of the middle, not resized."""
    y0, x0 = ((length - side) // 2 for length in pixels.shape[:2])
    return replace(PLAIN, box=(x0, y0, x0 + side, y0 + side), size=side, **fields)


def random_crop(pixels: np.ndarray, seed: int, size: int, photometry: Photometry | None = None) -> View:
    policy = ImageViews(np.array([pixels.shape[1::-1]]), size=size, photometry=(photometry or VARIANTS[0],) * 2)
    view = policy.plan(view_rng(seed, 0, 0), 0)["view_1"]
    return view if photometry else replace(PLAIN, box=view.box, size=size)


def colored(plain: View, seed: int, photometry: Photometry) -> View:
    """`plain` with flip, colours, blur and solarise drawn at random."""
    return draw_view(view_rng(seed, 0, 0), plain.image, plain.box, plain.size, photometry)


# ---- torchvision's operations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [96, 224])
def test_bilinear_resize_is_torchvisions(photos, size):
    for seed, pixels in enumerate(photos):
        view = random_crop(pixels, seed, size)
        to_tensors, to_pil = (difference(draw(view, pixels), way(view, pixels)) for way in (on_tensors, on_pil))
        assert to_tensors.max() <= 1
        assert to_tensors.mean() < 0.25
        assert to_pil.max() <= 2
        assert to_pil.mean() < 0.3


@pytest.mark.parametrize("size", [96, 224])
def test_bicubic_resize_is_torchvisions(photos, size):
    for seed, pixels in enumerate(photos):
        view = random_crop(pixels, seed, size)
        for reference in (on_pil(view, pixels, "bicubic"), on_tensors(view, pixels, "bicubic")):
            error = difference(draw(view, pixels, interpolation="bicubic"), reference)
            assert error.mean() < 0.3
            assert (error > 1).float().mean() < 0.006  # at edges that overshoot
            assert error.max() <= 20


@pytest.mark.parametrize("photometry", VARIANTS)
def test_colours_and_blur_are_torchvisions_on_tensors(photos, photometry):
    """Not resized, so that nothing else differs."""
    for seed, pixels in enumerate(photos):
        view = colored(central(pixels, 224), seed, photometry)
        error = difference(draw(view, pixels), on_tensors(view, pixels))
        assert error.max() <= 1
        assert error.mean() < 0.2  # rarely that much: torchvision's weights of gray do not quite sum up to 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), photometry=st.sampled_from(VARIANTS), stem=st.sampled_from(["rocket", "china"]))
def test_any_colours_are_torchvisions_on_tensors(seed, photometry, stem):
    pixels = load(PATHS[stem])
    view = colored(central(pixels, 64), seed, photometry)
    assert difference(draw(view, pixels), on_tensors(view, pixels)).max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("photometry", VARIANTS)
def test_whole_views_are_close_to_torchvisions(photos, photometry, interpolation):
    to_tensors, to_pil = [], []
    for seed, pixels in enumerate(photos):
        view = random_crop(pixels, seed, 224, photometry)
        drawn = draw(view, pixels, interpolation=interpolation)
        to_tensors.append(difference(drawn, on_tensors(view, pixels, interpolation)).mean().item())
        to_pil.append(difference(drawn, on_pil(view, pixels, interpolation)).mean().item())
    assert np.mean(to_tensors) < 0.25
    assert max(to_tensors) < 0.8
    assert np.mean(to_pil) < 1.5  # it cuts off half a level an operation
    assert max(to_pil) < 3.5


def test_a_plain_crop_of_the_right_size_is_not_touched():
    pixels = load(PATHS["rocket"])
    view = replace(PLAIN, box=(31, 17, 131, 117), size=100)
    drawn = draw(view, pixels)
    assert drawn.dtype == torch.uint8
    assert drawn.is_contiguous()
    assert np.array_equal(drawn.permute(1, 2, 0).numpy(), pixels[17:117, 31:131])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), stem=st.sampled_from(["rocket", "china"]))
def test_flipping_a_view_mirrors_its_pixels(seed, stem):
    pixels = load(PATHS[stem])
    view = random_crop(pixels, seed, 48, VARIANTS[0])
    error = difference(draw(replace(view, flip=not view.flip), pixels), draw(view, pixels).flip(-1))
    assert error.max() <= 1  # the mean of the contrast is summed up in another order
    assert error.mean() < 0.001


# ---- where a view is cut out ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_sees_nothing_beside_the_box(interpolation):
    pixels = load(PATHS["china"])
    view = replace(PLAIN, box=(100, 50, 400, 250), size=64)
    elsewhere = 255 - pixels
    elsewhere[50:250, 100:400] = pixels[50:250, 100:400]
    assert torch.equal(
        draw(view, pixels, interpolation=interpolation), draw(view, elsewhere, interpolation=interpolation)
    )


SIDE = st.integers(1, 700)


@given(data=st.data(), width=SIDE, height=SIDE, scale_x=st.floats(0.05, 1.5), scale_y=st.floats(0.05, 1.5))
def test_window_is_the_nearest_of_whole_pixels(data, width, height, scale_x, scale_y):
    """A photo of `width` x `height` pixels that came as another size."""
    h, w = max(1, round(height * scale_y)), max(1, round(width * scale_x))
    photo = Photo(np.zeros((h, w, 3), np.uint8), w / width, h / height)
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = x0, y0, data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    left, top, right, bottom = crop_window(box, photo)
    assert 0 <= left < right <= w
    assert 0 <= top < bottom <= h
    scales = photo.scale_x, photo.scale_y, photo.scale_x, photo.scale_y
    for side, edge, scale in zip((left, top, right, bottom), box, scales, strict=True):
        at_least_a_pixel = right - left == 1 or bottom - top == 1
        assert abs(side - edge * scale) <= 0.5 + 1e-6 + at_least_a_pixel
    assert crop_window(box, Photo(np.zeros((height, width, 3), np.uint8))) == box


def test_each_photo_is_opened_once():
    pixels, opened = load(PATHS["rocket"]), []

    def open_pixels(image: int, reduction: int) -> Photo:
        opened.append((image, reduction))
        return Photo(pixels)

    views = {name: replace(central(pixels, 32), image=image) for name, image in (("a", 4), ("b", 7), ("c", 4))}
    assert list(render(views, open_pixels)) == ["a", "b", "c"]
    assert opened == [(4, 1), (7, 1)]


# ---- photos at another scale ------------------------------------------------------------------------------------


def test_largest_reduction_keeps_enough_pixels_for_every_view():
    def crop(width: float, height: float, size: int) -> View:
        return replace(PLAIN, box=(3, 5, 3 + width, 5 + height), size=size)

    assert largest_reduction([crop(640, 512, 64)]) == 8
    assert largest_reduction([crop(640, 511, 64)]) == 4
    assert largest_reduction([crop(640, 640, 64), crop(130, 300, 64)]) == 2
    assert largest_reduction([crop(640, 640, 64), crop(100, 300, 64)]) == 1
    assert largest_reduction([crop(20, 20, 64)]) == 1


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("stem", ["rocket", "china", "astronaut"])  # JPEG, JPEG, and a PNG, which decodes differently
def test_scaled_decoding_is_close_to_exact(stem, reduction):
    path = PATHS[stem]
    height, width = load(path).shape[:2]
    side = (min(width, height) - 40) // reduction
    box = (8, 16, 8 + side * reduction, 16 + side * reduction)
    view = replace(PLAIN, box=box, size=side)
    exact = draw(view, load(path))
    opened = []

    def open_pixels(image: int, asked: int) -> Photo:
        opened.append(asked)
        return Photo(load(path, asked), 1 / asked, 1 / asked)

    scaled = render({"v": view}, open_pixels, scaled_decode=True)["v"]
    assert opened == [reduction]
    error = difference(exact, scaled).mean()
    assert error < 5.0  # libjpeg averages squares of pixels, which is sharper than the triangle of "bilinear"
    assert error < 0.5 * difference(exact, torch.roll(exact, 1, dims=-1)).mean()


def test_a_copy_of_another_size_shows_the_same_place():
    """A copy of 3/8 of the width and 1/2 of the height: boxes are scaled each way by its own factor."""
    pixels = load(PATHS["china"])
    h, w = pixels.shape[0] // 2, pixels.shape[1] * 3 // 8
    copy = draw(replace(PLAIN, box=(0, 0, *pixels.shape[1::-1]), size=512), pixels)  # as a source of a small picture
    small = torch.nn.functional.interpolate(copy[None], (h, w), mode="bilinear", antialias=True)[0]
    photo = Photo(small.permute(1, 2, 0).contiguous().numpy(), w / pixels.shape[1], h / pixels.shape[0])
    view = replace(PLAIN, box=(120, 80, 440, 336), size=96)
    exact = draw(view, pixels)
    shown = render({"v": view}, lambda image, reduction: photo)["v"]
    assert difference(exact, shown).mean() < 0.6 * difference(exact, torch.roll(exact, 1, dims=-1)).mean()
