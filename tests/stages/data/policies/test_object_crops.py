"""Object-aware crops: view 1 of an object box, view 2 of what belongs with it; and how small crops may get."""

from __future__ import annotations

from collections import Counter
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.data.box_geometry import crop_of_box, dilate_box, widen_box
from stages.data.loading import training_loader
from stages.data.policies import ImageViews, ObjectCrops, object_crops
from stages.data.policies.object_crops import mean_box_share
from stages.data.policies.photo_boxes import PhotoBoxes
from stages.data.views import BYOL_VIEW_1, draw_view, view_rng
from tests.stages.correspondence.mined_files import write_boxes
from tests.stages.data.policies.mined_scenes import BOXES, SIZES, box_of

OBJECT_MODES = ["obj_scene", "obj_obj_dilate", "obj_obj_shift"]


@pytest.fixture(scope="module")
def regions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("regions")
    write_boxes(folder, BOXES)
    return folder


def crops(regions: Path | None, mode: str, **changed) -> ObjectCrops:
    return ObjectCrops(SIZES, regions, size=64, mode=mode, **{"min_box": 50, "shift": (10, 20)} | changed)


def plans(policy, image: int, epochs: int = 200) -> list[dict]:
    return [policy.plan(view_rng(0, epoch, image), image) for epoch in range(epochs)]


def holds(outer, inner) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def area(box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def object_boxes(image: int, min_box: int = 50) -> list[tuple]:
    width, height = SIZES[image].tolist()
    rois = BOXES[BOXES["image"] == image]["roi"]
    return [widen_box(box_of(image, roi), width, height, min_box) for roi in rois]


def test_scene_scene_is_what_image_views_draws():
    policy, plain = crops(None, "scene_scene"), ImageViews(SIZES, size=64, scale=(0.2, 1.0))
    for image in range(3):
        assert plans(policy, image, 20) == plans(plain, image, 20)
    assert policy.min_crop == 0.2
    assert policy.box_share is None


@pytest.mark.parametrize("mode", OBJECT_MODES)
@pytest.mark.parametrize("image", range(3))
def test_view_1_is_a_crop_of_an_object_box(regions, mode, image):
    """Of a box of the photo, widened to 50 pixels; not smaller than `min_crop` of it; the same in all three modes."""
    policy = crops(regions, mode, min_crop=0.7)
    for views in plans(policy, image):
        assert tuple(views) == policy.names
        assert all(view.image == image and view.size == 64 for view in views.values())
        inside = [box for box in object_boxes(image) if holds(box, views["view_1"].box)]
        assert any(area(views["view_1"].box) > 0.7 * area(box) - 60 for box in inside)  # a row or column of rounding
    view_1 = [views["view_1"] for views in plans(policy, image)]
    assert view_1 == [views["view_1"] for views in plans(crops(regions, "obj_scene", min_crop=0.7), image)]
    assert policy.tables(view_rng(0, 0, 0), views) == {}


def test_the_order_of_the_random_numbers(regions):
    """A box, a crop of it, its colours. Resumed runs rely on it."""
    policy = crops(regions, "obj_obj_dilate", min_crop=0.6)
    for epoch in range(20):
        rng = view_rng(4, epoch, 0)
        box = object_boxes(0)[int(rng.random() * 2)]
        crop = crop_of_box(rng, box, (0.6, 1.0), (3 / 4, 4 / 3))
        view_1 = draw_view(rng, 0, crop, 64, BYOL_VIEW_1)
        views = policy.plan(view_rng(4, epoch, 0), 0)
        assert views["view_1"] == view_1
        assert views["view_2"].box == crop_of_box(rng, dilate_box(box, 120, 100, 0.1), (0.6, 1.0), (3 / 4, 4 / 3))


def test_view_2_of_obj_scene_is_a_scene_crop(regions):
    """Of the whole photo, so down to 0.2 of it, and over all of it."""
    boxes = np.array([views["view_2"].box for views in plans(crops(regions, "obj_scene", min_crop=0.9), 0, 1000)])
    shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / SIZES[0].prod()
    assert 0.18 < shares.min() < 0.25
    assert shares.max() > 0.9
    assert boxes.min(axis=0)[:2].tolist() == [0, 0]
    assert boxes.max(axis=0)[2:].tolist() == [120, 100]


@pytest.mark.parametrize("dilation", [0.0, 0.1, 0.3])
def test_view_2_of_dilate_is_a_crop_of_the_dilated_box(regions, dilation):
    policy = crops(regions, "obj_obj_dilate", dilation=dilation, min_crop=0.8, proposals=1)
    dilated = dilate_box(object_boxes(0)[0], 120, 100, dilation)
    found = [views["view_2"].box for views in plans(policy, 0, 400)]
    assert all(holds(dilated, box) for box in found)
    assert min(map(area, found)) > 0.75 * area(dilated)
    assert max(map(area, found)) > 0.9 * area(dilated)


def test_view_2_of_shift_is_a_crop_of_the_shifted_box(regions):
    """The box is (0, 0, 50, 50) of 120 x 100: shifted by 10 to 20 pixels, its centre moves that much."""
    policy = crops(regions, "obj_obj_shift", min_crop=1.0, proposals=1, ratio=(0.999, 1.001))
    box = object_boxes(0)[0]
    assert box == (0, 0, 50, 50)
    for views in plans(policy, 0):
        assert views["view_1"].box == box
        x0, y0, x1, y1 = views["view_2"].box
        assert (x1 - x0, y1 - y0) == (50, 50)
        assert 9 < np.hypot(x0, y0) < 21


def test_a_box_without_room_to_shift_goes_with_the_scene(regions):
    """Image 1 has one box, the whole photo: view 2 is a scene crop then, down to 0.2 of the photo."""
    policy = crops(regions, "obj_obj_shift", min_crop=0.9)
    second = [area(views["view_2"].box) / SIZES[1].prod() for views in plans(policy, 1)]
    assert 0.18 < min(second) < 0.4


def test_object_boxes_are_drawn_uniformly_from_the_first(tmp_path):
    boxes = pd.DataFrame({"image": 0, "roi": range(5), "x0": 0, "y0": [0, 100, 200, 300, 400], "x1": 100})
    write_boxes(tmp_path, boxes.assign(y1=boxes["y0"] + 80))
    policy = ObjectCrops(
        np.array([[400, 500]]), tmp_path, size=32, mode="obj_scene", proposals=3, min_box=10, min_crop=0.8
    )
    counts = Counter(int(views["view_1"].box[1] // 100) for views in plans(policy, 0, 3000))
    assert sorted(counts) == [0, 1, 2]
    assert all(count / 3000 == pytest.approx(1 / 3, abs=0.04) for count in counts.values())


def test_the_bound_is_matched_to_scene_crops(regions):
    """Written down again: the mean over photos of the mean share of their boxes, widened to 50 pixels."""
    shares = [np.mean([area(box) for box in object_boxes(image)]) / SIZES[image].prod() for image in range(3)]
    policy = crops(regions, "obj_obj_dilate")
    assert policy.box_share == pytest.approx(np.mean(shares))
    assert policy.min_crop == pytest.approx(0.2 / np.mean(shares))
    first = crops(regions, "obj_obj_dilate", proposals=1, min_box=1, scene_min_crop=0.1)
    alone = [area(box_of(image, 0)) / SIZES[image].prod() for image in range(3)]
    assert first.min_crop == pytest.approx(0.1 / np.mean(alone))


def test_small_boxes_do_not_push_the_bound_to_1(tmp_path):
    write_boxes(tmp_path, pd.DataFrame({"image": [0], "x0": [0], "y0": [0], "x1": [100], "y1": [100]}))
    policy = ObjectCrops(np.array([[1000, 1000]]), tmp_path, size=32, mode="obj_scene", min_box=10)
    assert policy.box_share == pytest.approx(0.01)
    assert policy.min_crop == 0.9


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), proposals=st.integers(1, 12), min_box=st.integers(1, 300), at_once=st.integers(1, 9)
)
def test_the_mean_share_is_summed_in_blocks(tmp_path_factory, seed, proposals, min_box, at_once):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("boxes")
    sizes = rng.integers(20, 500, (7, 2))
    image = np.arange(7).repeat(rng.integers(1, 15, 7))
    low = (rng.random((len(image), 2)) * (sizes[image] - 10)).astype(int)
    high = low + 1 + (rng.random(low.shape) * (sizes[image] - low)).astype(int)
    boxes = write_boxes(
        folder, pd.DataFrame(np.hstack([image[:, None], low, high]), columns=["image", "x0", "y0", "x1", "y1"])
    )
    expected = [
        np.mean([area(widen_box(box, *sizes[i].tolist(), min_box)) for box in boxes.of(i)[:proposals].tolist()])
        / sizes[i].prod()
        for i in range(7)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_crops, "PHOTOS_AT_A_TIME", at_once)
        found = mean_box_share(PhotoBoxes(folder, 7), sizes, proposals, min_box)
    assert found == pytest.approx(np.mean(expected))
    assert 0 < found <= 1


@pytest.mark.parametrize("mode", ["scene_scene", *OBJECT_MODES])
def test_batches_do_not_depend_on_the_workers(photo_catalog, tmp_path, mode):
    """Real photos, drawn by worker processes, on either renderer's way."""
    sizes = np.asarray(photo_catalog.sizes)
    images = np.arange(len(sizes)).repeat(2)
    corners = np.tile([[0, 0, 60, 70], [20, 30, 120, 110]], (len(sizes), 1))
    write_boxes(
        tmp_path, pd.DataFrame(np.hstack([images[:, None], corners]), columns=["image", "x0", "y0", "x1", "y1"])
    )
    policy = ObjectCrops(sizes, tmp_path, size=24, mode=mode, min_box=64, shift=(10, 20))
    assert len(ForkingPickler.dumps(policy)) < 3000
    steps = {"seed": 7, "batch_size": 3, "first_step": 0, "last_step": 3}
    for renderer in ("cpu", "device"):
        here, there = (
            [
                batch.on(torch.device("cpu"))
                for batch in training_loader(photo_catalog, policy, workers=workers, renderer=renderer, **steps)
            ]
            for workers in (0, 2)
        )
        for one, other in zip(here, there, strict=True):
            assert {name: views.shape for name, views in one.items()} == dict.fromkeys(policy.names, (3, 3, 24, 24))
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_is_refused(regions, tmp_path):
    with pytest.raises(ValueError, match=r"mode='object' is unknown. There are: scene_scene, obj_scene"):
        crops(regions, "object")
    with pytest.raises(ValueError, match=r"regions=None, but mode='obj_scene' crops boxes"):
        crops(None, "obj_scene")
    with pytest.raises(ValueError, match=r"proposals=0: draw from at least 1 box"):
        crops(regions, "obj_scene", proposals=0)
    write_boxes(tmp_path, BOXES[BOXES["image"] < 2])
    with pytest.raises(ValueError, match=r"boxes of 2 photos where the catalog has 3.* regions again, in this order"):
        crops(tmp_path, "obj_scene")
