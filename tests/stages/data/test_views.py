"""Geometry and colours as plain numbers: inside the photo, distributed as the references, reproducible."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import ColorJitter, RandomResizedCrop

from stages.data.views import BYOL_VIEW_1, PHOTOMETRIES, draw_view, iou, jitter_box, scene_crop, view_rng

SIDES = st.integers(8, 2000)
SEEDS = st.integers(0, 2**32 - 1)
BYOL_SCALE, BYOL_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


@st.composite
def boxes(draw) -> tuple[tuple[int, int, int, int], int, int]:
    width, height = draw(SIDES), draw(SIDES)
    x0, y0 = draw(st.integers(0, width - 4)), draw(st.integers(0, height - 4))
    return (x0, y0, draw(st.integers(x0 + 4, width)), draw(st.integers(y0 + 4, height))), width, height


@given(seed=SEEDS, width=SIDES, height=SIDES, least=st.floats(0.01, 1.0))
def test_scene_crop_is_a_box_inside_the_photo(seed, width, height, least):
    x0, y0, x1, y1 = scene_crop(np.random.default_rng(seed), width, height, (least, 1.0), BYOL_RATIO)
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height


@pytest.mark.parametrize(("width", "height"), [(640, 427), (200, 500)])
def test_scene_crop_has_the_distribution_of_torchvision(width, height):
    torch.manual_seed(0)
    photo, draws = Image.new("L", (width, height)), 4000
    theirs = np.array([RandomResizedCrop.get_params(photo, BYOL_SCALE, BYOL_RATIO) for _ in range(draws)])
    rng = np.random.default_rng(0)
    ours = np.array([scene_crop(rng, width, height, BYOL_SCALE, BYOL_RATIO) for _ in range(draws)])
    columns = {
        "top": (ours[:, 1], theirs[:, 0]),
        "left": (ours[:, 0], theirs[:, 1]),
        "height": (ours[:, 3] - ours[:, 1], theirs[:, 2]),
        "width": (ours[:, 2] - ours[:, 0], theirs[:, 3]),
        "aspect": ((ours[:, 2] - ours[:, 0]) / (ours[:, 3] - ours[:, 1]), theirs[:, 3] / theirs[:, 2]),
    }
    for name, (mine, reference) in columns.items():
        assert ks_2samp(mine, reference).pvalue > 1e-3, name


@pytest.mark.parametrize(("width", "height"), [(1000, 50), (50, 1000), (901, 33)])
def test_scene_crop_falls_back_to_the_same_centre_as_torchvision(width, height):
    """So wide that no crop of 90 % of the area has an allowed ratio: all ten draws fail."""
    top, left, h, w = RandomResizedCrop.get_params(Image.new("L", (width, height)), (0.9, 1.0), BYOL_RATIO)
    ours = scene_crop(np.random.default_rng(0), width, height, (0.9, 1.0), BYOL_RATIO)
    assert ours == (left, top, left + w, top + h)


@given(seed=SEEDS, case=boxes())
def test_jittered_box_lies_inside_and_overlaps(seed, case):
    box, width, height = case
    jittered = jitter_box(np.random.default_rng(seed), box, width, height, min_iou=0.5)
    assert 0 <= jittered[0] < jittered[2] <= width
    assert 0 <= jittered[1] < jittered[3] <= height
    assert iou(jittered, box) > 0.5


@given(seed=SEEDS, case=boxes())
def test_jitter_of_the_paper_keeps_to_its_bounds(seed, case):
    box, width, height = case
    box_w, box_h = box[2] - box[0], box[3] - box[1]
    jittered = jitter_box(np.random.default_rng(seed), box, width, height, min_iou=None)
    assume(jittered != box)
    w, h = jittered[2] - jittered[0], jittered[3] - jittered[1]
    assert 0 <= jittered[0] < jittered[2] <= width
    assert 0 <= jittered[1] < jittered[3] <= height
    # Sides and corners are rounded: each side is off by at most half a pixel, the centre by one.
    assert (w + 0.5) * (h + 0.5) >= 0.5 * box_w * box_h
    assert (w - 0.5) * (h - 0.5) <= 2.0 * box_w * box_h
    assert (w - 0.5) / (h + 0.5) <= 2.0
    assert (w + 0.5) / (h - 0.5) >= 0.5
    assert abs((jittered[0] + jittered[2]) - (box[0] + box[2])) / 2 <= 0.5 * box_w + 1
    assert abs((jittered[1] + jittered[3]) - (box[1] + box[3])) / 2 <= 0.5 * box_h + 1


def reference_jitter(rng: random.Random, box, width, height, min_iou):
    """The rules of the official ORL loader, written down again from its description, over masks instead of formulas."""
    x0, y0, x1, y1 = box
    original = np.zeros((height, width), bool)
    original[y0:y1, x0:x1] = True
    for _ in range(200):
        area = (x1 - x0) * (y1 - y0) * rng.uniform(0.5, 2)
        aspect = 2 ** rng.uniform(-1, 1)
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        cx = (x0 + x1) / 2 + (x1 - x0) * rng.uniform(-0.5, 0.5)
        cy = (y0 + y1) / 2 + (y1 - y0) * rng.uniform(-0.5, 0.5)
        left, top = round(cx - w / 2), round(cy - h / 2)
        if min(left, top) < 0 or left + w > width or top + h > height:
            continue
        drawn = np.zeros((height, width), bool)
        drawn[top : top + h, left : left + w] = True
        if min_iou is None or (drawn & original).sum() / (drawn | original).sum() > min_iou:
            return left, top, left + w, top + h
    return box


@pytest.mark.parametrize("min_iou", [0.5, None])
def test_jitter_box_has_the_distribution_of_the_official_code(min_iou):
    width, height, box = 96, 64, (10, 20, 50, 44)
    reference, rng = random.Random(0), np.random.default_rng(0)
    theirs = np.array([reference_jitter(reference, box, width, height, min_iou) for _ in range(1500)])
    ours = np.array([jitter_box(rng, box, width, height, min_iou=min_iou) for _ in range(1500)])
    for edge in range(4):
        assert ks_2samp(ours[:, edge], theirs[:, edge]).pvalue > 1e-3, edge


def test_jitter_box_gives_up_with_the_original():
    box = (0, 0, 100, 100)  # no box of ratio 2 within a photo of this very size overlaps it by 0.9
    assert jitter_box(np.random.default_rng(0), box, 100, 100, min_iou=0.9, ratio=(2.0, 2.0)) == box


def test_iou():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0  # half-open: neighbours share nothing
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)


def test_view_rng_depends_on_seed_epoch_and_image_alone():
    def draw(*key: int) -> float:
        return view_rng(*key).random()

    assert draw(0, 1, 2) == draw(0, 1, 2)
    assert len({draw(0, 1, 2), draw(1, 1, 2), draw(0, 2, 2), draw(0, 1, 3), draw(0, 2, 1), draw(2, 1, 0)}) == 6


def test_photometries_are_those_of_the_papers():
    """BYOL table 6 and appendix B; SimCLR appendix A; MoCo v2's code. One row a view, probabilities then strengths."""
    rows = {
        name: [
            (p.jitter_probability, p.gray_probability, p.blur_probability, p.solarize_probability,
             p.brightness, p.contrast, p.saturation, p.hue)
            for p in views
        ]
        for name, views in PHOTOMETRIES.items()
    }  # fmt: skip
    assert rows == {
        "byol": [(0.8, 0.2, 1.0, 0.0, 0.4, 0.4, 0.2, 0.1), (0.8, 0.2, 0.1, 0.2, 0.4, 0.4, 0.2, 0.1)],
        "simclr": [(0.8, 0.2, 0.5, 0.0, 0.8, 0.8, 0.8, 0.2)] * 2,
        "moco": [(0.8, 0.2, 0.5, 0.0, 0.4, 0.4, 0.4, 0.1)] * 2,
    }


@pytest.mark.parametrize("photometry", sorted({p for pair in PHOTOMETRIES.values() for p in pair}, key=str))
def test_operations_come_with_their_probabilities(photometry):
    rng, draws = np.random.default_rng(0), 4000
    views = [draw_view(rng, 0, (0, 0, 9, 9), 32, photometry) for _ in range(draws)]
    expected = {
        "flip": 0.5,
        "jitter": photometry.jitter_probability,
        "gray": photometry.gray_probability,
        "blur_sigma": photometry.blur_probability,
        "solarize": photometry.solarize_probability,
    }
    for name, probability in expected.items():
        share = np.mean([getattr(view, name) not in (None, False) for view in views])
        tolerance = 4 * math.sqrt(probability * (1 - probability) / draws)
        assert abs(share - probability) <= tolerance, name
    sigmas = [view.blur_sigma for view in views if view.blur_sigma is not None]
    assert 0.1 <= min(sigmas) < 0.2 < 1.9 < max(sigmas) <= 2.0


@pytest.mark.parametrize("strengths", [(0.4, 0.4, 0.2, 0.1), (0.8, 0.8, 0.8, 0.2), (1.5, 0.4, 0.2, 0.5)])
def test_jitter_factors_have_the_distribution_of_torchvision(strengths):
    torch.manual_seed(0)
    reference = ColorJitter(*strengths)
    ranges = (reference.brightness, reference.contrast, reference.saturation, reference.hue)
    theirs = [ColorJitter.get_params(*ranges) for _ in range(3000)]
    names = ("brightness", "contrast", "saturation", "hue")
    always = replace(BYOL_VIEW_1, jitter_probability=1.0, **dict(zip(names, strengths, strict=True)))
    rng = np.random.default_rng(0)
    ours = [draw_view(rng, 0, (0, 0, 9, 9), 32, always).jitter for _ in range(3000)]
    for place, name in enumerate(names):
        assert ks_2samp([getattr(o, name) for o in ours], [t[place + 1] for t in theirs]).pvalue > 1e-3, name
        positions = np.bincount([o.order.index(name) for o in ours], minlength=4)
        assert positions.min() > 650, name  # 750 expected


@settings(max_examples=25)
@given(seed=SEEDS)
def test_another_probability_changes_its_own_operation_alone(seed):
    never = replace(BYOL_VIEW_1, gray_probability=0.0)
    with_gray = draw_view(np.random.default_rng(seed), 0, (0, 0, 9, 9), 32, BYOL_VIEW_1)
    without = draw_view(np.random.default_rng(seed), 0, (0, 0, 9, 9), 32, never)
    assert replace(with_gray, gray=False) == without
