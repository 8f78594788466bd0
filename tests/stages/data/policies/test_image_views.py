"""Random crops of the whole photo: large ones, and small ones beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from stages.data.box_geometry import scene_crop
from stages.data.loading import training_loader
from stages.data.policies import ImageViews
from stages.data.views import BYOL_VIEW_1, BYOL_VIEW_2, draw_view, view_rng

SIZES = np.array([[120, 100], [900, 1400], [200, 80]])


def share(view, image: int) -> float:
    x0, y0, x1, y1 = view.box
    return (x1 - x0) * (y1 - y0) / SIZES[image].prod()


def test_two_different_crops_of_the_same_photo():
    policy = ImageViews(SIZES, size=64)
    views = policy.plan(view_rng(0, 0, 1), 1)
    assert tuple(views) == policy.names == ("view_1", "view_2")
    assert views["view_1"].box != views["view_2"].box
    assert all(view.image == 1 and view.size == 64 for view in views.values())
    assert views["view_1"].blur_sigma is not None  # BYOL blurs the first view always, and never solarises it
    assert not views["view_1"].solarize
    assert policy.tables(view_rng(0, 0, 1), views) == {}


def test_crops_keep_to_their_scale():
    policy = ImageViews(SIZES, size=64, scale=(0.6, 1.0))
    for epoch in range(50):
        assert min(share(view, 0) for view in policy.plan(view_rng(0, epoch, 0), 0).values()) > 0.58


def test_small_views_leave_the_large_ones_as_they_are():
    alone, multi = ImageViews(SIZES, size=64), ImageViews(SIZES, size=64, small_views=4, small_size=32)
    assert multi.names == ("view_1", "view_2", "small_1", "small_2", "small_3", "small_4")
    for epoch in range(20):
        large, both = (policy.plan(view_rng(0, epoch, 2), 2) for policy in (alone, multi))
        assert tuple(both) == multi.names
        assert {name: both[name] for name in large} == large
        assert {both[name].size for name in multi.names[2:]} == {32}
        assert len({view.box for view in both.values()}) == 6


def test_small_views_are_5_to_14_percent_of_the_photo():
    """SwAV, section 3.2: the area is uniform in that range."""
    policy = ImageViews(SIZES, size=224, small_views=4)
    plans = [policy.plan(view_rng(0, epoch, 1), 1) for epoch in range(400)]
    small = [share(plan[f"small_{number}"], 1) for plan in plans for number in range(1, 5)]
    assert kstest(small, "uniform", (0.05, 0.09)).pvalue > 1e-3
    assert {plan[f"small_{number}"].size for plan in plans for number in range(1, 5)} == {96}


@pytest.mark.parametrize("name", ["small_1", "small_2", "small_3", "small_4"])
def test_colours_of_small_views_alternate(name):
    """As in ORL's patches: the first of two has the colours of view 1, always blurred, the second those of view 2."""
    policy = ImageViews(SIZES, size=64, small_views=4)
    views = [policy.plan(view_rng(0, epoch, 0), 0)[name] for epoch in range(300)]
    blurred, solarized = (
        np.mean([getattr(view, field) not in (None, False) for view in views]) for field in ("blur_sigma", "solarize")
    )
    photometry = BYOL_VIEW_1 if name in ("small_1", "small_3") else BYOL_VIEW_2
    assert blurred == pytest.approx(photometry.blur_probability, abs=0.07)
    assert solarized == pytest.approx(photometry.solarize_probability, abs=0.09)


def test_a_view_is_a_crop_and_then_its_colours():
    """The order of the random numbers, which resumed runs rely on."""
    views, rng = ImageViews(SIZES, size=64).plan(view_rng(5, 2, 2), 2), view_rng(5, 2, 2)
    for name, photometry in (("view_1", BYOL_VIEW_1), ("view_2", BYOL_VIEW_2)):
        box = scene_crop(rng, 200, 80, (0.08, 1.0), (3 / 4, 4 / 3))
        assert views[name] == draw_view(rng, 2, box, 64, photometry)


@pytest.mark.parametrize("renderer", ["cpu", "device"])
def test_batches_of_two_sizes_do_not_depend_on_the_workers(photo_catalog, renderer):
    policy = ImageViews(photo_catalog.sizes, size=24, small_views=3, small_size=12)
    settings = {"seed": 3, "batch_size": 3, "first_step": 0, "last_step": 3, "renderer": renderer}
    here, there = (
        [batch.on(torch.device("cpu")) for batch in training_loader(photo_catalog, policy, workers=workers, **settings)]
        for workers in (0, 2)
    )
    for one, other in zip(here, there, strict=True):
        assert list(one) == list(policy.names)
        assert [views.shape[-1] for views in one.values()] == [24, 24, 12, 12, 12]
        assert all(torch.equal(one[name], other[name]) for name in one)
