"""Pixels of a view: equal to torchvision's operations on PIL images, and right by each operation's own formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from skimage.color import hsv2rgb, rgb2hsv
from torchvision.transforms import functional as F

from stages.data.decode import decode
from stages.data.demo_photos import library_photos
from stages.data.policies import ImageViews
from stages.data.render import largest_reduction, render
from stages.data.views import ColorJitter, View, view_rng

PLAIN = View(image=0, box=(0, 0, 1, 1), size=1, flip=False, jitter=None, gray=False, blur_sigma=None, solarize=False)
PHOTOS = [str(path) for path in library_photos() if path.suffix == ".jpg"]


@pytest.fixture(scope="module", params=["rocket", "china"])
def photo(request: pytest.FixtureRequest) -> Image.Image:
    return decode(next(path for path in library_photos() if path.stem == request.param))


def draw(view: View, photo: Image.Image, **settings) -> torch.Tensor:
    return render({"view": view}, lambda image, reduction: photo, **settings)["view"]


def whole(photo: Image.Image, side: int = 200, **fields) -> View:
    """A view whose crop is `side` x `side` pixels of the middle, not resized."""
    x0, y0 = (photo.width - side) // 2, (photo.height - side) // 2
    return replace(PLAIN, box=(x0, y0, x0 + side, y0 + side), size=side, **fields)


def pixels(view: View, photo: Image.Image) -> np.ndarray:
    """The view as (S, S, 3) float64 in 0 .. 255."""
    return draw(view, photo).permute(1, 2, 0).numpy().astype(np.float64)


def one_factor(**factor: float) -> ColorJitter:
    return ColorJitter(**{"order": tuple(factor), "brightness": 1, "contrast": 1, "saturation": 1, "hue": 0} | factor)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_every_operation_equals_torchvision_pixel_by_pixel(photo, interpolation):
    jitter = ColorJitter(("hue", "contrast", "brightness", "saturation"), 1.3, 0.7, 1.15, -0.06)
    view = View(0, (31, 17, 301, 190), 96, flip=True, jitter=jitter, gray=False, blur_sigma=0.8, solarize=True)
    mode = F.InterpolationMode(interpolation)
    expected = F.hflip(F.resized_crop(photo, top=17, left=31, height=173, width=270, size=[96, 96], interpolation=mode))
    expected = F.adjust_contrast(F.adjust_hue(expected, -0.06), 0.7)
    expected = F.adjust_saturation(F.adjust_brightness(expected, 1.3), 1.15)
    expected = F.solarize(expected.filter(ImageFilter.GaussianBlur(0.8)), 128)
    drawn = draw(view, photo, interpolation=interpolation)
    assert drawn.dtype == torch.uint8
    assert drawn.is_contiguous()
    assert torch.equal(drawn, F.pil_to_tensor(expected))

    gray = F.to_grayscale(F.resized_crop(photo, 17, 31, 173, 270, [96, 96], mode), 3)
    view = replace(PLAIN, box=view.box, size=96, gray=True)
    assert torch.equal(draw(view, photo, interpolation=interpolation), F.pil_to_tensor(gray))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), file=st.sampled_from(PHOTOS))
def test_flipping_a_view_mirrors_its_pixels(seed, file):
    picture = decode(file)
    view = ImageViews(np.array([picture.size]), size=48).plan(view_rng(seed, 0, 0), 0)["view_2"]
    flipped = draw(replace(view, flip=not view.flip), picture)
    assert torch.equal(flipped, draw(view, picture).flip(-1))


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_brightness_scales(photo, factor):
    plain = pixels(whole(photo), photo)
    expected = np.clip(plain * factor, 0, 255)
    ours = pixels(whole(photo, jitter=one_factor(brightness=factor)), photo)
    assert np.abs(ours - expected).max() <= 1  # PIL cuts the fraction off


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601, rounded, which PIL and torchvision use."""
    return np.floor(rgb @ np.array([0.299, 0.587, 0.114]) + 0.5)


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_contrast_blends_with_the_mean_gray(photo, factor):
    plain = pixels(whole(photo), photo)
    expected = np.clip(factor * plain + (1 - factor) * luma(plain).mean(), 0, 255)
    ours = pixels(whole(photo, jitter=one_factor(contrast=factor)), photo)
    assert np.abs(ours - expected).max() <= 1.5  # the mean is rounded too


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_saturation_blends_with_the_gray_picture(photo, factor):
    plain = pixels(whole(photo), photo)
    expected = np.clip(factor * plain + (1 - factor) * luma(plain)[..., None], 0, 255)
    ours = pixels(whole(photo, jitter=one_factor(saturation=factor)), photo)
    assert np.abs(ours - expected).max() <= 1.5


@pytest.mark.parametrize("shift", [-0.1, 0.05, 0.1])
def test_hue_turns_the_colour_circle(photo, shift):
    hsv = rgb2hsv(pixels(whole(photo), photo) / 255)
    hsv[..., 0] = (hsv[..., 0] + shift) % 1
    expected = 255 * hsv2rgb(hsv)
    ours = pixels(whole(photo, jitter=one_factor(hue=shift)), photo)
    error = np.abs(ours - expected)
    # PIL keeps hue, saturation and value as whole numbers of 0 .. 255; a step of hue is up to 6 levels of a channel.
    assert error.mean() < 1.5
    assert error.max() <= 10


def test_grayscale_and_solarize(photo):
    plain = pixels(whole(photo), photo)
    gray = pixels(whole(photo, gray=True), photo)
    assert np.abs(gray - luma(plain)[..., None]).max() <= 1
    inverted = pixels(whole(photo, solarize=True), photo)
    assert np.array_equal(inverted, np.where(plain < 128, plain, 255 - plain))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_nearly_gaussian(photo, sigma):
    expected = gaussian_filter(pixels(whole(photo), photo), (sigma, sigma, 0), mode="nearest")
    error = np.abs(pixels(whole(photo, blur_sigma=sigma), photo) - expected)
    assert error.mean() < 1.2  # PIL approximates the Gaussian by three box filters


def test_jitter_applies_in_the_drawn_order(photo):
    factors = {"brightness": 1.4, "contrast": 0.6, "saturation": 1.2, "hue": 0.1}
    one = draw(whole(photo, jitter=ColorJitter(("brightness", "contrast", "saturation", "hue"), **factors)), photo)
    other = draw(whole(photo, jitter=ColorJitter(("contrast", "hue", "saturation", "brightness"), **factors)), photo)
    assert not torch.equal(one, other)


def test_each_photo_is_opened_once(photo):
    opened = []

    def open_photo(image: int, reduction: int) -> Image.Image:
        opened.append((image, reduction))
        return photo

    views = {name: replace(whole(photo), image=image) for name, image in (("a", 4), ("b", 7), ("c", 4))}
    assert list(render(views, open_photo)) == ["a", "b", "c"]
    assert opened == [(4, 1), (7, 1)]


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
    path = next(path for path in library_photos() if path.stem == stem)
    width, height = decode(path).size
    side = (min(width, height) - 40) // reduction
    # The corner is at an odd pixel, so that the scaled box ends between pixels: taking whole ones would show.
    box = (13, 21, 13 + side * reduction + 5, 21 + side * reduction + 3)
    view = replace(PLAIN, box=box, size=side)
    assert largest_reduction([view]) == reduction
    exact = render({"v": view}, lambda image, r: decode(path, r))["v"].float()
    scaled = render({"v": view}, lambda image, r: decode(path, r), scaled_decode=True)["v"].float()
    assert (exact - scaled).abs().mean() < 4.0  # levels of 0 .. 255
    shifted = torch.roll(exact, 1, dims=-1)
    assert (exact - scaled).abs().mean() < 0.5 * (exact - shifted).abs().mean()
