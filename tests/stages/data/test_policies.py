"""Which views a method is shown: of which photo, which box, with which colours."""

from __future__ import annotations

import itertools
from collections import Counter
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.data.policies import ImageViews, OrlViews
from stages.data.views import iou, view_rng
from tests.stages.correspondence.mined_files import write_boxes, write_pairs

SIZES = np.array([[120, 100], [90, 140], [200, 80]])
BOXES = pd.DataFrame(
    [
        (0, 0, 5, 5, 45, 45),
        (0, 1, 50, 20, 110, 90),
        (1, 0, 0, 0, 90, 140),
        (2, 0, 10, 10, 60, 70),
        (2, 1, 99, 0, 199, 80),
    ],
    columns=["image", "roi", "x0", "y0", "x1", "y1"],
)
# Image 0 has two neighbours: image 1 (one pair) and image 2 (three pairs).
PAIRS = pd.DataFrame(
    [(0, 0, 1, 0, 0), (0, 4, 2, 0, 0), (0, 4, 2, 0, 1), (0, 4, 2, 1, 1), (1, 0, 0, 0, 1), (2, 0, 1, 1, 0)],
    columns=["image", "rank", "neighbor", "roi", "neighbor_roi"],
)


@pytest.fixture(scope="module")
def mined(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mined")
    write_pairs(folder, write_boxes(folder, BOXES), PAIRS)
    return folder


def orl(mined: Path, **settings) -> OrlViews:
    return OrlViews(ImageViews(SIZES, size=64), mined, mined, patch_size=32, **settings)


def box_of(image: int, roi: int) -> tuple[int, ...]:
    row = BOXES[(BOXES["image"] == image) & (BOXES["roi"] == roi)]
    return tuple(row[["x0", "y0", "x1", "y1"]].to_numpy()[0].tolist())


def test_image_views_are_two_different_crops_of_the_same_photo():
    policy = ImageViews(SIZES, size=64)
    views = policy.plan(view_rng(0, 0, 1), 1)
    assert tuple(views) == policy.names == ("view_1", "view_2")
    assert views["view_1"].box != views["view_2"].box
    assert all(view.image == 1 and view.size == 64 for view in views.values())
    assert views["view_1"].blur_sigma is not None  # BYOL blurs the first view always, and never solarises it
    assert not views["view_1"].solarize


def test_image_views_keep_to_the_crop_scale():
    policy = ImageViews(SIZES, size=64, scale=(0.6, 1.0))
    for epoch in range(50):
        for view in policy.plan(view_rng(0, epoch, 0), 0).values():
            x0, y0, x1, y1 = view.box
            assert (x1 - x0) * (y1 - y0) > 0.58 * 120 * 100


def test_orl_views_come_from_the_right_photos_and_boxes(mined):
    policy = orl(mined)
    for epoch in range(200):
        views = policy.plan(view_rng(3, epoch, 0), 0)
        assert tuple(views) == policy.names
        assert {name: view.size for name, view in views.items()} == dict.fromkeys(policy.names, 32) | {
            "view_1": 64,
            "view_2": 64,
        }
        assert all(views[name].image == 0 for name in policy.names if name != "inter_2")
        assert views["intra_1"].box in {box_of(0, 0), box_of(0, 1)}
        assert iou(views["intra_1"].box, views["intra_2"].box) > 0.5
        pair = views["inter_1"].box, views["inter_2"].image, views["inter_2"].box
        assert pair in {
            (box_of(0, roi), neighbor, box_of(neighbor, neighbor_roi))
            for _, _, neighbor, roi, neighbor_roi in PAIRS[PAIRS["image"] == 0].itertuples(index=False)
        }
        for first in ("intra_1", "inter_1"):
            assert views[first].blur_sigma is not None
            assert not views[first].solarize


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


def test_the_draws_are_those_of_the_tables(mined):
    """From the tables, in the order of the random numbers: a box, a neighbour with pairs, one of its pairs."""
    for epoch, image in itertools.product(range(30), range(3)):
        plan, rng = orl(mined).plan(view_rng(5, epoch, image), image), view_rng(5, epoch, image)
        views = ImageViews(SIZES, size=64).plan(rng, image)
        assert plan["view_2"] == views["view_2"]
        assert plan["intra_1"].box == box_of(image, int(rng.integers((BOXES["image"] == image).sum())))


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


@pytest.mark.parametrize("name", ["corners", "starts", "pair_neighbors", "pair_starts", "pair_rois"])
def test_files_that_do_not_belong_together_are_refused(tmp_path, mined, name):
    for file in ("corners", "starts", "pair_neighbors", "pair_starts", "pair_rois"):
        np.save(tmp_path / f"{file}.npy", np.load(mined / f"{file}.npy")[: -1 if file == name else None])
    with pytest.raises(ValueError, match=r"do not belong to 3 photos.* again, in this order"):
        orl(tmp_path)


def test_unknown_jitter_is_refused(mined):
    with pytest.raises(ValueError, match=r"jitter='three' is unknown"):
        orl(mined, jitter="three")
