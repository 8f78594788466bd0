"""Boxes as plain numbers: inside the photo, within their bounds, distributed as the references."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import RandomResizedCrop

from stages.data.box_geometry import crop_of_box, dilate_box, iou, jitter_box, scene_crop, shift_box, widen_box

SIDES = st.integers(8, 2000)
SEEDS = st.integers(0, 2**32 - 1)
BYOL_SCALE, BYOL_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def holds(outer, inner) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


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


@given(seed=SEEDS, case=boxes(), least=st.floats(0.05, 1.0))
def test_a_crop_lies_in_its_box(seed, case, least):
    box, _, _ = case
    crop = crop_of_box(np.random.default_rng(seed), box, (least, 1.0), BYOL_RATIO)
    assert holds(box, crop)
    assert crop[0] < crop[2]
    assert crop[1] < crop[3]


def test_a_crop_of_a_box_is_that_of_a_photo_of_its_size():
    crop = crop_of_box(np.random.default_rng(3), (30, 50, 130, 250), BYOL_SCALE, BYOL_RATIO)
    alone = scene_crop(np.random.default_rng(3), 100, 200, BYOL_SCALE, BYOL_RATIO)
    assert crop == tuple(edge + start for edge, start in zip(alone, (30, 50, 30, 50), strict=True))


@given(case=boxes(), least=st.integers(1, 400))
def test_a_widened_box_holds_the_box_about_its_centre(case, least):
    box, width, height = case
    wide = widen_box(box, width, height, least)
    assert holds((0, 0, width, height), wide)
    assert holds(wide, box)
    for low, high, length in ((0, 2, width), (1, 3, height)):
        side, before = wide[high] - wide[low], box[high] - box[low]
        assert side == max(before, min(least, length))
        at_border = wide[low] == 0 or wide[high] == length
        assert at_border or abs(wide[low] + wide[high] - box[low] - box[high]) <= 1  # half a pixel


def test_boxes_are_widened_one_side_at_a_time():
    assert widen_box((100, 100, 110, 400), 640, 480, 224) == (0, 100, 224, 400)
    assert widen_box((300, 100, 340, 140), 640, 480, 224) == (208, 8, 432, 232)
    assert widen_box((600, 440, 640, 480), 640, 480, 224) == (416, 256, 640, 480)
    assert widen_box((50, 50, 60, 60), 100, 480, 224) == (0, 0, 100, 224)
    assert widen_box((0, 0, 300, 224), 640, 480, 224) == (0, 0, 300, 224)


@given(case=boxes(), dilation=st.floats(0, 1))
def test_a_dilated_box_holds_the_box(case, dilation):
    box, width, height = case
    dilated = dilate_box(box, width, height, dilation)
    assert holds((0, 0, width, height), dilated)
    assert holds(dilated, box)
    # As much on either side, but for what the photo cuts off.
    for low, high, length in ((0, 2, width), (1, 3, height)):
        before, after = box[low] - dilated[low], dilated[high] - box[high]
        assert abs(max(before, after) - dilation * length) <= 0.5 or (dilated[low] == 0 and dilated[high] == length)
        assert before == after or dilated[low] == 0 or dilated[high] == length


def test_dilation_is_a_share_of_the_photo():
    assert dilate_box((200, 200, 300, 250), 640, 480, 0.1) == (136, 152, 364, 298)
    assert dilate_box((30, 200, 300, 470), 640, 480, 0.1) == (0, 152, 364, 480)
    assert dilate_box((200, 200, 300, 250), 640, 480, 0.0) == (200, 200, 300, 250)


@given(seed=SEEDS, case=boxes(), low=st.floats(0, 200), span=st.floats(0, 50))
def test_a_shifted_box_keeps_its_size_and_lies_inside(seed, case, low, span):
    box, width, height = case
    shifted = shift_box(np.random.default_rng(seed), box, width, height, distance=(low, low + span))
    room = box[0], box[1], width - box[2], height - box[3]
    if math.hypot(max(room[0], room[2]), max(room[1], room[3])) < low - 1:
        assert shifted is None
    if min(room) > low + span + 1:
        assert shifted is not None
    if shifted is None:
        return
    assert holds((0, 0, width, height), shifted)
    assert (shifted[2] - shifted[0], shifted[3] - shifted[1]) == (box[2] - box[0], box[3] - box[1])
    # Both coordinates are rounded to the nearest pixel.
    distance = math.hypot(shifted[0] - box[0], shifted[1] - box[1])
    assert low - math.sqrt(0.5) - 1e-9 <= distance <= low + span + math.sqrt(0.5) + 1e-9


def test_shifts_are_uniform_in_distance_and_direction():
    """A box with room all around it."""
    box, rng = (5000, 5000, 5100, 5050), np.random.default_rng(0)
    moves = [shift_box(rng, box, 10_000, 10_000, distance=(800, 1000)) for _ in range(3000)]
    x, y = np.array([(moved[0] - box[0], moved[1] - box[1]) for moved in moves]).T
    assert kstest(np.hypot(x, y), "uniform", (800, 200)).pvalue > 1e-3
    assert kstest(np.arctan2(y, x), "uniform", (-math.pi, 2 * math.pi)).pvalue > 1e-3


def test_boxes_without_room_are_not_shifted():
    rng = np.random.default_rng(0)
    assert shift_box(rng, (10, 10, 600, 470), 640, 480, distance=(80, 100)) is None
    corner = {shift_box(rng, (0, 0, 540, 480), 640, 480, distance=(80, 99)) for _ in range(50)}
    assert None in corner  # only to the right: one of many directions, so tries may run out
    assert all(box is None or (box[0] >= 80 and box[1] == 0) for box in corner)


def test_iou():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0  # half-open: neighbours share nothing
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
