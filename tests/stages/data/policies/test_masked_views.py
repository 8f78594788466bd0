"""DetCon's views: those of the photo, and which regions each shows, from masks of all kinds."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import LabelMaps, MaskStack, runs_of_mask
from stages.data.masks.storage import Masks
from stages.data.policies import ImageViews, MaskedViews
from stages.data.render import Photo, crop_window
from stages.data.views import View, view_rng
from stages.report import Report
from tests.stages.data.made_masks import make_felzenszwalb, make_masks, write_masks

SIZES = np.array([[48, 40], [40, 64]])  # width, height
LEFT, RIGHT = np.arange(48) < 24, np.arange(48) >= 30


def masked(catalog_sizes: np.ndarray, masks: Masks, size: int = 28, **changes: Any) -> MaskedViews:
    settings: dict[str, Any] = {"regions": 16, "pooling": "hard", "cells": 7} | changes
    return MaskedViews(ImageViews(catalog_sizes, size=size), masks.directory, **settings)


def drawn(policy: MaskedViews, epoch: int, image: int) -> tuple[dict[str, View], dict[str, np.ndarray]]:
    rng = view_rng(0, epoch, image)
    views = policy.plan(rng, image)
    return views, policy.tables(rng, views)


def pooled(labels: np.ndarray, view: View, cells: int) -> Tensor:
    """(labels, G, G): one-hot masks through crop, nearest resize and flip, average-pooled; with torch alone."""
    left, top, right, bottom = crop_window(view.box, Photo(labels[:, :, None]))
    window = torch.from_numpy(labels[top:bottom, left:right].astype(np.float64))[None, None]
    seen = F.interpolate(window, (view.size, view.size), mode="nearest-exact")[0, 0].long()
    if view.flip:
        seen = seen.flip(1)
    return F.avg_pool2d(F.one_hot(seen, int(labels.max()) + 1).permute(2, 0, 1).double(), view.size // cells)


@pytest.fixture(scope="module")
def coco_photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    root, out = tmp_path_factory.mktemp("coco"), tmp_path_factory.mktemp("catalog")
    for path in sorted((shared_data / "coco" / "val2017").glob("*.jpg"))[:4]:
        (root / path.name).write_bytes(path.read_bytes())
    indexing.run(
        out=out, report=Report(), format="folder", root=root, annotations=None, split=None, list_file=None, min_side=32,
        max_rejected=0.0, workers=1,
    )  # fmt: skip
    return Catalog(out, root)


@pytest.fixture(scope="module")
def coco_masks(coco_photos: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Masks:
    return make_felzenszwalb(tmp_path_factory.mktemp("masks"), coco_photos, (500, 1000))


@pytest.fixture
def halves(tmp_path: Path) -> Masks:
    """Of two photos: two layers, one of regions 0 and 1, the other of 10 and 11."""
    maps = []
    for width, height in SIZES:
        labels = np.tile((np.arange(width) >= width // 2).astype(np.uint16), (height, 1))
        maps.append(LabelMaps((int(width), int(height)), [labels, labels + 10]))
    return write_masks(tmp_path / "halves", maps, ["low", "high"])


@pytest.fixture
def stack(tmp_path: Path) -> Masks:
    """Of two photos: a mask of the left half and one that overlaps it; and one in a corner."""
    first = np.stack([np.tile(LEFT, (40, 1)), np.tile(LEFT[::-1] | LEFT, (40, 1))])
    corner = np.zeros((1, 64, 40), bool)
    corner[0, :6, :6] = True
    return write_masks(
        tmp_path / "stack",
        [
            MaskStack((each.shape[2], each.shape[1]), [runs_of_mask(mask) for mask in each], np.ones(len(each)))
            for each in (first, corner)
        ],
        [],
    )


@pytest.mark.parametrize("pooling", ["hard", "soft"])
def test_felzenszwalb_of_coco_as_an_independent_transcription_has_it(
    coco_photos: Catalog, coco_masks: Masks, pooling: str
) -> None:
    policy = masked(coco_photos.sizes, coco_masks, size=224, pooling=pooling)
    for image in range(len(coco_photos)):
        views, tables = drawn(policy, 0, image)
        fits = []
        for layer in range(2):
            labels = coco_masks.labels(image, layer)
            fits.append(all(agrees(tables, name, pooled(labels, views[name], 7), pooling) for name in views))
        assert any(fits), "both views have regions of one and the same layer"


def agrees(tables: dict[str, np.ndarray], name: str, shares: Tensor, pooling: str) -> bool:
    masks, ids = tables[f"{name}_masks"], torch.from_numpy(tables[f"{name}_ids"]).long()
    assert (masks.shape, masks.dtype) == ((16, 7, 7), np.float32)
    assert (ids.shape, tables[f"{name}_ids"].dtype) == ((16,), np.int32)
    if pooling == "hard":
        shares = F.one_hot(shares.argmax(dim=0), len(shares)).permute(2, 0, 1).double()
    surviving = shares.sum(dim=(1, 2)) > 0
    return bool(ids.max() < len(shares) and surviving[ids].all() and np.allclose(shares[ids], masks, atol=1e-6))


def test_views_are_those_without_masks(coco_photos: Catalog, coco_masks: Masks) -> None:
    plain, policy = ImageViews(coco_photos.sizes, size=224), masked(coco_photos.sizes, coco_masks, size=224)
    assert policy.names == plain.names
    views, tables = drawn(policy, 5, 2)
    assert views == plain.plan(view_rng(0, 5, 2), 2)
    assert list(tables) == ["view_1_masks", "view_1_ids", "view_2_masks", "view_2_ids"]


def test_both_views_get_the_same_layer_and_all_layers_come_up(halves: Masks) -> None:
    policy = masked(SIZES, halves)
    layers = []
    for epoch in range(200):
        ids = drawn(policy, epoch, 0)[1]
        found = {*(ids["view_1_ids"] // 10), *(ids["view_2_ids"] // 10)}
        assert len(found) == 1
        layers += found
    assert abs(sum(layers) - 100) < 4 * np.sqrt(200 / 4)


def test_draws_of_the_two_views_do_not_depend_on_each_other(halves: Masks) -> None:
    """Where both views show both regions."""
    policy = masked(SIZES, halves)
    both = []
    for epoch in range(1500):
        ids = drawn(policy, epoch, 0)[1]
        first, second = (ids[f"{name}_ids"] % 10 for name in policy.names)
        if set(first) == set(second) == {0, 1}:
            both.append((first[0], second[0]))
    counts = np.bincount([2 * first + second for first, second in both])
    assert np.abs(counts - len(both) / 4).max() < 4 * np.sqrt(len(both) * 0.25 * 0.75)


def test_grids(photo_catalog: Catalog, tmp_path: Path) -> None:
    whole = masked(photo_catalog.sizes, make_masks(tmp_path / "whole", photo_catalog, "grid", cells=(1,)))
    tables = drawn(whole, 0, 3)[1]
    assert tables["view_1_masks"].tolist() == np.ones((16, 7, 7)).tolist()
    assert not tables["view_2_ids"].any()

    grid = make_masks(tmp_path / "grid", photo_catalog, "grid", cells=(5,))
    policy = masked(photo_catalog.sizes, grid, size=224)
    for image in range(len(photo_catalog)):
        views, tables = drawn(policy, 0, image)
        labels = grid.labels(image, 0)
        assert all(agrees(tables, name, pooled(labels, views[name], 7), "hard") for name in views)


def test_masks_that_overlap_are_pooled_softly(stack: Masks) -> None:
    policy = masked(SIZES, stack, pooling="soft")
    for epoch in range(20):
        views, tables = drawn(policy, epoch, 0)
        for name, view in views.items():
            for mask, number in zip(tables[f"{name}_masks"], tables[f"{name}_ids"], strict=True):
                expected = pooled(stack.stack(0)[number].astype(int), view, 7)[-1]
                np.testing.assert_allclose(mask, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"pooling='hard' gives each cell to one region.*may overlap: pass pooling="):
        masked(SIZES, stack, pooling="hard")


def test_where_no_mask_reaches_nothing_is_there_to_match(stack: Masks) -> None:
    policy = masked(SIZES, stack, pooling="soft")
    found = []
    for epoch in range(40):
        views, tables = drawn(policy, epoch, 1)
        for name, view in views.items():
            reached = view.box[0] < 6 and view.box[1] < 6
            assert (tables[f"{name}_ids"] == (0 if reached else -1)).all()
            assert tables[f"{name}_masks"].any() == reached
            found.append(reached)
    assert set(found) == {True, False}


def test_masks_of_other_photos_are_refused(halves: Masks) -> None:
    with pytest.raises(ValueError, match=r"masks of 2 photos where the catalog has 1.*catalog and masks again"):
        masked(SIZES[:1], halves)
    policy = masked(SIZES[::-1], halves)
    with pytest.raises(ValueError, match=r"masks of 48 x 40 pixels for photo 0 of 40 x 64.*catalog and masks again"):
        drawn(policy, 0, 0)
    with pytest.raises(ValueError, match=r"pooling='mean' is unknown"):
        masked(SIZES, halves, pooling="mean")


def test_a_worker_gets_paths_and_draws_the_same(coco_photos: Catalog, coco_masks: Masks) -> None:
    policy = masked(coco_photos.sizes, coco_masks)
    here = drawn(policy, 0, 1)
    pickled = pickle.dumps(policy)
    assert len(pickled) < 4000
    views, tables = drawn(pickle.loads(pickled), 0, 1)  # noqa: S301 - written three lines above
    assert views == here[0]
    assert all(np.array_equal(tables[name], here[1][name]) for name in tables)
