"""Tables travel with the views of a batch: the same for any workers, ranks and resumption, and never as pictures."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data.catalog import Catalog
from stages.data.loading import EpochStream, training_loader
from stages.data.masks import Masks
from stages.data.policies import ImageViews, MaskedViews, Policy
from stages.data.views import view_rng
from stages.learning.encoder import Encoder
from stages.learning.loop import train
from stages.learning.settings import Training
from stages.methods.byol import BYOL
from stages.report import Report
from tests.stages.data.made_masks import make_felzenszwalb
from tests.stages.learning.settings import ENCODER, LOOP, PLACE

CPU = torch.device("cpu")
VIEWS = ["view_1", "view_2"]
TABLES = ["view_1_masks", "view_1_ids", "view_2_masks", "view_2_ids"]

Batches = list[dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def masks(photo_catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Masks:
    return make_felzenszwalb(tmp_path_factory.mktemp("masks"), photo_catalog)


def masked(catalog: Catalog, masks: Masks) -> MaskedViews:
    photo_views = ImageViews(catalog.sizes, size=24)
    return MaskedViews(photo_views, masks.directory, regions=5, pooling="hard", cells=3)


def batches(catalog: Catalog, policy: Policy, **changes: Any) -> Batches:
    settings: dict[str, Any] = {"seed": 7, "batch_size": 4, "first_step": 0, "last_step": 4, "workers": 0} | changes
    return [batch.on(CPU) for batch in training_loader(catalog, policy, **settings)]


def equal(first: Batches, second: Batches) -> bool:
    return len(first) == len(second) and all(
        list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)
        for one, other in zip(first, second, strict=True)
    )


def only(tables: list[str], found: Batches) -> Batches:
    return [{name: batch[name] for name in tables} for batch in found]


def joined(parts: list[Batches]) -> Batches:
    return [
        {name: torch.cat([batch[name] for batch in together]) for name in together[0]}
        for together in zip(*parts, strict=True)
    ]


def test_tables_come_after_the_views_and_change_none(photo_catalog: Catalog, masks: Masks) -> None:
    policy = masked(photo_catalog, masks)
    found = batches(photo_catalog, policy)
    assert [list(batch) for batch in found] == [VIEWS + TABLES] * 4
    for batch in found:
        assert (batch["view_1_masks"].shape, batch["view_1_masks"].dtype) == ((4, 5, 3, 3), torch.float32)
        assert (batch["view_2_ids"].shape, batch["view_2_ids"].dtype) == ((4, 5), torch.int32)
    assert equal(only(VIEWS, found), batches(photo_catalog, ImageViews(photo_catalog.sizes, size=24)))


def test_tables_are_those_of_the_sample(photo_catalog: Catalog, masks: Masks) -> None:
    """They can be drawn again from (seed, epoch, image), after the views."""
    policy = masked(photo_catalog, masks)
    stream = EpochStream(8, seed=7, batch_size=4, first_step=0, last_step=4)
    for samples, batch in zip(stream, batches(photo_catalog, policy), strict=True):
        for row, (epoch, image) in enumerate(samples):
            rng = view_rng(7, epoch, image)
            tables = policy.tables(rng, policy.plan(rng, image))
            assert all(np.array_equal(batch[name][row], tables[name]) for name in TABLES)


@pytest.mark.parametrize("renderer", ["cpu", "device"])
def test_batches_with_tables_do_not_depend_on_workers_or_resumption(
    photo_catalog: Catalog, masks: Masks, renderer: str
) -> None:
    policy = masked(photo_catalog, masks)
    whole = batches(photo_catalog, policy, renderer=renderer)
    assert equal(whole, batches(photo_catalog, policy, renderer=renderer, workers=2))
    assert equal(whole[1:], batches(photo_catalog, policy, renderer=renderer, first_step=1))
    assert equal(only(TABLES, whole), only(TABLES, batches(photo_catalog, policy, scaled_decode=True)))


def test_parts_of_processes_and_micro_batches_make_the_whole(photo_catalog: Catalog, masks: Masks) -> None:
    policy = masked(photo_catalog, masks)
    whole = batches(photo_catalog, policy)
    parts = [batches(photo_catalog, policy, processes=2, rank=rank, accumulate=2) for rank in range(2)]
    order = [[part[2 * step + micro] for step in range(4)] for micro, part in product(range(2), parts)]
    assert equal(whole, joined(order))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_replaced_photo_brings_its_own_tables(
    photo_catalog: Catalog, masks: Masks, tmp_path: Path, workers: int
) -> None:
    for image in range(8):
        if image != 3:
            path = tmp_path / photo_catalog.path(image).relative_to(photo_catalog.root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo_catalog.path(image).read_bytes())
    catalog = Catalog(photo_catalog.directory, tmp_path)
    policy = masked(catalog, masks)
    whole, found = batches(photo_catalog, policy), batches(catalog, policy, workers=workers)
    stream = EpochStream(8, seed=7, batch_size=4, first_step=0, last_step=4)
    for samples, batch, expected in zip(stream, found, whole, strict=True):
        for row, (epoch, image) in enumerate(samples):
            if image != 3:
                assert all(torch.equal(batch[name][row], expected[name][row]) for name in TABLES)
                continue
            # As the loader chooses and draws one: from the same generator, one after the other
            rng = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(epoch, image)))
            stand_in = (image + 1 + int(rng.integers(7))) % 8
            tables = policy.tables(rng, policy.plan(rng, stand_in))
            assert all(np.array_equal(batch[name][row], tables[name]) for name in TABLES)


def test_the_sheet_of_views_shows_pictures_alone(photo_catalog: Catalog, masks: Masks, tmp_path: Path) -> None:
    def byol(encoder: Encoder) -> BYOL:
        return BYOL(encoder, predictor_hidden=16, tau=0.9)

    sheets = []
    for policy in (masked(photo_catalog, masks), ImageViews(photo_catalog.sizes, size=24)):
        out = tmp_path / type(policy).__name__
        out.mkdir()
        train(
            byol, photo_catalog, policy, out=out, report=Report(), encoder=ENCODER, init=None, settings={},
            training=Training(**(LOOP | PLACE | {"epochs": "1 step"})),
        )  # fmt: skip
        with Image.open(out / "views.png") as sheet:
            sheets.append(np.asarray(sheet))
    np.testing.assert_array_equal(*sheets)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("renderer", ["cpu", "device"])
def test_a_gpu_gets_the_same_tables(photo_catalog: Catalog, masks: Masks, renderer: str) -> None:
    gpu, policy = torch.device("cuda"), masked(photo_catalog, masks)
    settings: dict[str, Any] = {"seed": 7, "batch_size": 4, "first_step": 0, "last_step": 6, "renderer": renderer}
    here = training_loader(photo_catalog, policy, workers=0, **settings)
    there = training_loader(photo_catalog, policy, workers=1, **settings, device=gpu)
    for one, other in zip(here, there, strict=True):
        expected, batch = one.on(CPU), other.on(gpu)
        assert list(batch) == VIEWS + TABLES
        for name in TABLES:
            assert batch[name].device.type == "cuda"
            assert torch.equal(batch[name].cpu(), expected[name])
