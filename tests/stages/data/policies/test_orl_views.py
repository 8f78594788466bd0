"""ORL's views: of which photo, which box, with which colours; and which files may be what."""

from __future__ import annotations

from collections import Counter
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from stages.data.box_geometry import iou, jitter_box
from stages.data.policies import ImageViews, OrlViews
from stages.data.views import BYOL_VIEW_1, BYOL_VIEW_2, draw_view, part_rng, view_rng
from tests.stages.correspondence.mined_files import write_boxes, write_pairs
from tests.stages.data.policies.mined_scenes import BOXES, PAIRS, SIZES, box_of


@pytest.fixture(scope="module")
def mined(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mined")
    write_pairs(folder, write_boxes(folder, BOXES), PAIRS)
    return folder


def orl(mined: Path, **settings) -> OrlViews:
    return OrlViews(ImageViews(SIZES, size=64), mined, mined, patch_size=32, **settings)


def test_views_come_from_the_right_photos_and_boxes(mined):
    policy = orl(mined)
    pairs = {
        (box_of(0, roi), neighbor, box_of(neighbor, neighbor_roi))
        for _, _, neighbor, roi, neighbor_roi in PAIRS[PAIRS["image"] == 0].itertuples(index=False)
    }
    boxes = {box_of(0, 0), box_of(0, 1)}
    assert policy.names == ("view_1", "view_2", "intra_1", "intra_2", "inter_1", "inter_2")
    for epoch in range(200):
        views = policy.plan(view_rng(3, epoch, 0), 0)
        assert tuple(views) == policy.names
        assert {name: view.size for name, view in views.items()} == dict.fromkeys(policy.names, 32) | {
            "view_1": 64,
            "view_2": 64,
        }
        assert all(views[name].image == 0 for name in policy.names if name != "inter_2")
        assert views["intra_1"].box in boxes
        assert iou(views["intra_1"].box, views["intra_2"].box) > 0.5
        assert (views["inter_1"].box, views["inter_2"].image, views["inter_2"].box) in pairs
        for first in ("intra_1", "inter_1"):
            assert views[first].blur_sigma is not None
            assert not views[first].solarize
    assert policy.tables(view_rng(3, 0, 0), views) == {}


def test_neighbours_are_equally_likely_then_their_pairs(mined):
    """Image 1 brings one pair and image 2 three: 1/2 and 3 x 1/6, not 1/4 each. Boxes of the photo are uniform too."""
    policy, draws = orl(mined), 3000
    plans = [policy.plan(view_rng(0, epoch, 0), 0) for epoch in range(draws)]
    shares = Counter((plan["inter_1"].box, plan["inter_2"].image, plan["inter_2"].box) for plan in plans)
    for (_, neighbor, _), count in shares.items():
        assert count / draws == pytest.approx(1 / 2 if neighbor == 1 else 1 / 6, abs=0.04)
    assert len(shares) == 4
    intra = Counter(plan["intra_1"].box for plan in plans)
    assert intra[box_of(0, 0)] / draws == pytest.approx(0.5, abs=0.04)


def test_jitter_both_moves_both_boxes_and_drops_the_overlap_rule(mined):
    policy = orl(mined, jitter="both")
    plans = [policy.plan(view_rng(0, epoch, 0), 0) for epoch in range(100)]
    boxes = {box_of(0, 0), box_of(0, 1)}
    assert sum(plan["intra_1"].box not in boxes for plan in plans) > 90
    assert min(iou(plan["intra_1"].box, plan["intra_2"].box) for plan in plans) < 0.3


def test_plans_can_be_drawn_again(mined):
    assert orl(mined).plan(view_rng(1, 2, 2), 2) == orl(mined).plan(view_rng(1, 2, 2), 2)
    assert orl(mined).plan(view_rng(1, 2, 2), 2) != orl(mined).plan(view_rng(1, 3, 2), 2)


@pytest.mark.parametrize("image", range(3))
def test_the_order_of_the_random_numbers(mined, image):
    """Written down again from the tables. Resumed runs rely on it."""
    groups = [group for _, group in PAIRS[PAIRS["image"] == image].groupby("rank")]
    width, height = SIZES[image].tolist()
    for epoch in range(30):
        plan, rng = orl(mined).plan(view_rng(5, epoch, image), image), view_rng(5, epoch, image)
        intra, inter = part_rng(rng, 1), part_rng(rng, 2)
        expected = ImageViews(SIZES, size=64).plan(rng, image)

        box = box_of(image, int(intra.random() * (BOXES["image"] == image).sum()))
        jittered = jitter_box(intra, box, width, height, min_iou=0.5)
        expected["intra_1"] = draw_view(intra, image, box, 32, BYOL_VIEW_1)
        expected["intra_2"] = draw_view(intra, image, jittered, 32, BYOL_VIEW_2)

        group = groups[int(inter.random() * len(groups))]
        pair = group.iloc[int(inter.random() * len(group))]
        expected["inter_1"] = draw_view(inter, image, box_of(image, pair["roi"]), 32, BYOL_VIEW_1)
        neighbor_box = box_of(pair["neighbor"], pair["neighbor_roi"])
        expected["inter_2"] = draw_view(inter, int(pair["neighbor"]), neighbor_box, 32, BYOL_VIEW_2)
        assert plan == expected


PART_NAMES = {
    "image": ("view_1", "view_2"),
    "intra": ("intra_1", "intra_2"),
    "inter": ("inter_1", "inter_2"),
}


@pytest.mark.parametrize(
    "parts", [("image",), ("intra",), ("inter",), ("image", "intra"), ("inter", "image"), ("intra", "inter")]
)
def test_a_part_is_the_same_without_the_others(mined, parts):
    """So runs of table 5a differ in nothing but the parts of the loss; and views nobody asks for are not drawn."""
    policy = orl(mined, parts=parts)
    assert policy.names == tuple(name for part in PART_NAMES if part in parts for name in PART_NAMES[part])
    for epoch in range(20):
        whole = orl(mined).plan(view_rng(0, epoch, 0), 0)
        assert policy.plan(view_rng(0, epoch, 0), 0) == {name: whole[name] for name in policy.names}


def test_parts_need_their_files_alone(mined):
    photos = ImageViews(SIZES, size=64)
    image = OrlViews(photos, None, None, patch_size=32, parts=("image",))
    assert image.plan(view_rng(0, 0, 1), 1) == photos.plan(view_rng(0, 0, 1), 1)
    assert OrlViews(photos, mined, None, patch_size=32, parts=("image", "intra")).names[-1] == "intra_2"
    with pytest.raises(ValueError, match=r"regions=None, but the parts intra need boxes: pass the directory"):
        OrlViews(photos, None, mined, patch_size=32, parts=("intra",))
    with pytest.raises(ValueError, match=r"correspondence=None, but the parts image, intra, inter need pairs"):
        OrlViews(photos, mined, None, patch_size=32)


@pytest.mark.parametrize("parts", [(), ("image", "outer"), "image"])
def test_unknown_parts_are_refused(mined, parts):
    with pytest.raises(ValueError, match=r"name at least one of image, intra, inter"):
        orl(mined, parts=parts)


def test_unknown_jitter_is_refused(mined):
    with pytest.raises(ValueError, match=r"jitter='three' is unknown"):
        orl(mined, jitter="three")


def test_a_pickled_policy_holds_no_table(mined):
    policy = orl(mined)
    policy.plan(view_rng(1, 2, 0), 0)
    state = ForkingPickler.dumps(policy)
    assert len(state) < 3000
    assert ForkingPickler.loads(state).plan(view_rng(1, 2, 0), 0) == policy.plan(view_rng(1, 2, 0), 0)


def test_a_photo_without_pair_or_box_is_named(tmp_path):
    boxes = write_boxes(tmp_path, BOXES)
    write_pairs(tmp_path, boxes, PAIRS[PAIRS["image"] != 1])
    with pytest.raises(ValueError, match=r"image 1 .* has no pair.* correspondence again"):
        orl(tmp_path)
    write_pairs(tmp_path, boxes, PAIRS[PAIRS["image"] < 2])
    with pytest.raises(ValueError, match=r"image 2 .* has no pair"):
        orl(tmp_path)
    write_boxes(tmp_path, BOXES[BOXES["image"] > 0])
    with pytest.raises(ValueError, match=r"image 0 .* has no box"):
        orl(tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("neighbor_roi", 7, r"neighbor_roi 7 of image 1: no such box"), ("roi", -1, r"roi -1 of image 0: no such box")],
)
def test_pairs_of_other_boxes_are_refused(tmp_path, mined, column, value, message):
    rois = np.load(mined / "pair_rois.npy")
    rois[0, int(column == "neighbor_roi")] = value
    for name in ("corners", "starts", "pair_neighbors", "pair_starts"):
        np.save(tmp_path / f"{name}.npy", np.load(mined / f"{name}.npy"))
    np.save(tmp_path / "pair_rois.npy", rois)
    with pytest.raises(ValueError, match=message):
        orl(tmp_path)


PAIRS_OF_OTHERS = r"do not belong to 3 photos.* again, in this order"
WRONG_FILES = {
    "corners": r"is damaged: starts\.npy counts 5 boxes, corners\.npy holds 4\. Make the step regions again",
    "starts": r"boxes of 2 photos where the catalog has 3.* again, in this order",
    **dict.fromkeys(("pair_neighbors", "pair_starts", "pair_rois"), PAIRS_OF_OTHERS),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_files_that_do_not_belong_together_are_refused(tmp_path, mined, name):
    for file in WRONG_FILES:
        np.save(tmp_path / f"{file}.npy", np.load(mined / f"{file}.npy")[: -1 if file == name else None])
    with pytest.raises(ValueError, match=WRONG_FILES[name]):
        orl(tmp_path)
