"""Pixels drawn in batches: those of the CPU renderer, and of torchvision's operations, on real photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as F
from torchvision_views import on_tensors

from stages.data.batches import PackedBatch, Packs
from stages.data.decode import decode
from stages.data.demo_photos import library_photos
from stages.data.policies import ImageViews
from stages.data.render import Interpolation, Photo, render
from stages.data.render_on_device import blur, turn_hue
from stages.data.views import ColorJitter, Photometry, View, view_rng

CPU = torch.device("cpu")
PLAIN = View(image=0, box=(0, 0, 1, 1), size=1, flip=False, jitter=None, gray=False, blur_sigma=None, solarize=False)
Views = dict[str, Tensor]
STRONG = Photometry(
    jitter_probability=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, gray_probability=0.2,
    blur_probability=0.5, solarize_probability=0.2,
)  # fmt: skip


def read(path: Path) -> Photo:
    return Photo(np.array(decode(path)))


@pytest.fixture(scope="module", params=["photos of the libraries", "VOC2007", "COCO"])
def photos(request: pytest.FixtureRequest) -> list[Photo]:
    if request.param == "photos of the libraries":
        return [read(path) for path in library_photos()]
    shared = request.getfixturevalue("shared_data")
    folder = shared / {"VOC2007": "VOCdevkit/VOC2007/JPEGImages", "COCO": "coco/train2017"}[request.param]
    return [read(path) for path in sorted(folder.glob("*.jpg"))[:12]]


@pytest.fixture(scope="module")
def rocket() -> Photo:
    return read(next(path for path in library_photos() if path.stem == "rocket"))


def packed(plans: list[dict[str, View]], photos: list[Photo], interpolation: Interpolation = "bilinear") -> PackedBatch:
    maker = Packs(scaled_decode=False, interpolation=interpolation)
    maker.begin(len(plans))
    for plan in plans:
        maker.add(plan, lambda image, reduction: photos[image])
    return maker.end({}, [])


def draw(plans: list[dict[str, View]], photos: list[Photo], interpolation: Interpolation = "bilinear") -> Views:
    """name -> (b, 3, S, S), drawn in a batch."""
    return packed(plans, photos, interpolation).on(CPU)


def random_plans(photos: list[Photo], size: int = 96, rounds: int = 3) -> list[dict[str, View]]:
    sizes = np.array([photo.pixels.shape[1::-1] for photo in photos])
    policy = ImageViews(sizes, size=size, photometry=(STRONG, STRONG))
    return [policy.plan(view_rng(0, epoch, image), image) for epoch in range(rounds) for image in range(len(photos))]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_both_renderers_draw_the_same(photos, interpolation):
    """But for rounding: there the resized crop is rounded twice, here once, and strong colour operations widen that."""
    plans = random_plans(photos)
    drawn = draw(plans, photos, interpolation)
    errors = []
    for row, plan in enumerate(plans):
        expected = render(plan, lambda image, reduction: photos[image], interpolation=interpolation)
        assert list(drawn) == list(expected)
        errors += [(drawn[name][row].float() - expected[name].float()).abs() for name in expected]
    means = torch.stack([error.mean() for error in errors])
    assert means.mean() < 0.2
    assert means.max() < 0.8
    assert max(error.max() for error in errors) <= 16


def torchvision(view: View, photo: Photo, interpolation: str) -> Tensor:
    """(3, S, S) float32 by torchvision's operations on float tensors; the resized crop is rounded to whole levels."""
    left, top, right, bottom = (int(side) for side in view.box)
    crop = F.resized_crop(
        torch.from_numpy(photo.pixels).permute(2, 0, 1).float(), top, left, bottom - top, right - left,
        [view.size, view.size], F.InterpolationMode(interpolation),
    ).round().clamp(0, 255)  # fmt: skip
    resized = crop.to(torch.uint8).permute(1, 2, 0).numpy()
    return on_tensors(replace(view, box=(0, 0, view.size, view.size)), resized).float()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_whole_chain_equals_torchvision_within_a_level(photos, interpolation):
    """But for single pixels: torchvision's luma has weights that sum to 0.9999."""
    plans = random_plans(photos, rounds=2)
    drawn = draw(plans, photos, interpolation)
    for row, plan in enumerate(plans):
        for name, view in plan.items():
            error = (drawn[name][row].float() - torchvision(view, photos[view.image], interpolation)).abs()
            assert error.mean() < 0.1
            assert error.max() <= 2


def whole(photo: Photo, **fields) -> View:
    """A view of 200 x 200 pixels from the middle, not resized."""
    height, width = photo.pixels.shape[:2]
    x0, y0 = (width - 200) // 2, (height - 200) // 2
    return replace(PLAIN, box=(x0, y0, x0 + 200, y0 + 200), size=200, **fields)


def operations() -> Iterator[tuple[str, dict[str, object]]]:
    """Each alone; all of them go through one batch, so that a mix-up of rows would show."""
    for name, factor in [("brightness", 0.6), ("brightness", 1.4), ("contrast", 0.6), ("contrast", 1.4)]:
        yield f"{name} {factor}", {"jitter": one_factor(**{name: factor})}
    for name, factor in [("saturation", 0.2), ("saturation", 1.8), ("hue", -0.5), ("hue", -0.1), ("hue", 0.05)]:
        yield f"{name} {factor}", {"jitter": one_factor(**{name: factor})}
    orders = [("brightness", "contrast", "saturation", "hue"), ("hue", "contrast", "brightness", "saturation")]
    for order in orders:
        yield f"{order}", {"jitter": ColorJitter(order, brightness=1.4, contrast=0.6, saturation=1.2, hue=0.1)}
    for sigma in (0.3, 0.5, 1.0, 2.0):
        yield f"blur {sigma}", {"blur_sigma": sigma}
    yield "plain", {}
    yield "flip", {"flip": True}
    yield "gray", {"gray": True}
    yield "solarize", {"solarize": True}
    yield "gray, blurred and solarized", {"gray": True, "blur_sigma": 1.5, "solarize": True}


def one_factor(**factor: float) -> ColorJitter:
    return ColorJitter(**{"order": tuple(factor), "brightness": 1, "contrast": 1, "saturation": 1, "hue": 0} | factor)


def test_each_operation_equals_torchvision_within_a_level(rocket):
    views = {name: whole(rocket, **fields) for name, fields in operations()}
    drawn = draw([{"view": view} for view in views.values()], [rocket])["view"]
    for row, (name, view) in enumerate(views.items()):
        error = (drawn[row].float() - torchvision(view, rocket, "bilinear")).abs()
        assert error.max() <= 1, name
        assert error.mean() < 0.02, name
    assert len({bytes(picture.numpy()) for picture in drawn}) == len(views)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.03, 0.5])
def test_hue_of_every_kind_of_colour(turn):
    levels = torch.tensor([0.0, 1.0, 100.0, 101.0, 254.0, 255.0])
    colours = torch.cartesian_prod(levels, levels, levels).T[None, :, None]  # (1, 3, 1, 216): grays and ties too
    expected = 255 * F.adjust_hue(colours / 255, turn)
    torch.testing.assert_close(turn_hue(colours, torch.tensor([turn])), expected, atol=0.01, rtol=0)


def test_blur_gives_each_picture_its_own_kernel():
    pictures = torch.rand(2, 3, 9, 9)
    kernels = torch.tensor([[0.0, 1.0, 0.0], [0.25, 0.5, 0.25]])
    blurred = blur(pictures, kernels)
    torch.testing.assert_close(blurred[0], pictures[0])
    padded = torch.nn.functional.pad(pictures[1], [1] * 4, mode="reflect")
    rows = padded[:, :-2] / 4 + padded[:, 1:-1] / 2 + padded[:, 2:] / 4
    torch.testing.assert_close(blurred[1], rows[..., :-2] / 4 + rows[..., 1:-1] / 2 + rows[..., 2:] / 4)


def test_a_view_does_not_depend_on_the_others_in_its_batch(rocket):
    """140 samples of two sizes are drawn in several sheets."""
    plans = [
        {
            "small": replace(view["view_1"], size=8),
            "large": replace(view["view_1"], size=24),
            "other": replace(view["view_2"], size=8),
        }
        for view in random_plans([rocket], rounds=140)
    ]
    together = draw(plans, [rocket])
    assert {name: tuple(views.shape) for name, views in together.items()} == {
        "small": (140, 3, 8, 8), "large": (140, 3, 24, 24), "other": (140, 3, 8, 8)
    }  # fmt: skip
    for row in (0, 63, 64, 127, 128, 139):
        alone = draw([plans[row]], [rocket])
        for name in alone:
            assert (together[name][row].float() - alone[name][0].float()).abs().max() <= 1


def test_a_crop_that_shrinks_very_much(rocket):
    for interpolation in ("bilinear", "bicubic"):
        view = replace(PLAIN, box=(3, 5, 603, 405), size=8)
        drawn = draw([{"view": view}], [rocket], interpolation)["view"][0]
        assert (drawn.float() - torchvision(view, rocket, interpolation)).abs().max() <= 1


def test_only_what_is_shown_travels(rocket):
    view = replace(PLAIN, box=(10, 20, 40, 50), size=8)
    plan = {"a": view, "b": replace(view, box=(30, 30, 70, 60)), "c": replace(view, box=(0, 0, 5, 7), image=1)}
    assert len(packed([plan] * 2, [rocket, rocket]).pixels) == 2 * 3 * (60 * 40 + 5 * 7)


def test_boxes_are_scaled_with_the_photo(rocket):
    """A photo at half its width and a quarter of its height: a box means the same place."""
    height, width = rocket.pixels.shape[:2]
    stretched = torch.from_numpy(rocket.pixels).permute(2, 0, 1)
    shrunk = F.resize(stretched, [height // 4, width // 2], antialias=True).permute(1, 2, 0).numpy()
    small = Photo(np.ascontiguousarray(shrunk), width // 2 / width, height // 4 / height)
    plan = {"view": replace(PLAIN, box=(100, 60, 420, 380), size=64)}
    exact, scaled = (draw([plan], [photo])["view"].float() for photo in (rocket, small))
    assert (exact - scaled).abs().mean() < 0.5 * (exact - exact.roll(1, -1)).abs().mean()
    in_small = {"view": replace(PLAIN, box=(50, 15, 210, 94), size=64)}  # 106 rows for 427
    assert torch.equal(scaled.byte(), draw([in_small], [replace(small, scale_x=1.0, scale_y=1.0)])["view"])
