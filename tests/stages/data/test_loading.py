"""Batches: the same for any number of workers and any point of resumption, full, and clear about missing photos."""

from __future__ import annotations

import shutil
from collections import Counter
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import transforms

from stages.data.batches import Batch
from stages.data.catalog import Catalog
from stages.data.loading import EpochStream, photo_loader, training_loader
from stages.data.photos import Photos
from stages.data.policies import ImageViews, OrlViews
from stages.data.render import render
from stages.data.views import view_rng
from tests.stages.correspondence.mined_files import write_boxes, write_pairs

CPU = torch.device("cpu")

Views = list[dict[str, torch.Tensor]]


def loaded(catalog: Catalog, *, workers: int = 0, first_step: int = 0, last_step: int = 5, **settings) -> list[Batch]:
    settings = {"seed": 7, "batch_size": 3} | settings
    policy = ImageViews(catalog.sizes, size=24)
    loader = training_loader(
        catalog, policy, first_step=first_step, last_step=last_step, workers=workers, **settings
    )  # fmt: skip
    assert len(loader) == (last_step - first_step) * settings.get("accumulate", 1)
    return list(loader)


def batches(catalog: Catalog, **settings) -> Views:
    return [batch.on(CPU) for batch in loaded(catalog, **settings)]


def equal(first: Views, second: Views) -> bool:
    return len(first) == len(second) and all(
        one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        for one, other in zip(first, second, strict=True)
    )


def copy_of(catalog: Catalog, out: Path) -> Catalog:
    """The same photos elsewhere, for tests that damage some."""
    for image in range(len(catalog)):
        path = out / "photos" / catalog.path(image).relative_to(catalog.root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(catalog.path(image).read_bytes())
    shutil.copytree(catalog.directory, out / "catalog")
    return Catalog(out / "catalog", out / "photos")


def test_batches_do_not_depend_on_workers_or_resumption(photo_catalog):
    """Eight photos in batches of three: the third batch crosses into the second epoch."""
    whole = batches(photo_catalog)
    assert equal(whole, batches(photo_catalog, workers=2))
    assert equal(whole[2:], batches(photo_catalog, first_step=2))
    assert equal(whole[3:], batches(photo_catalog, first_step=3, workers=1))
    assert not equal(whole, batches(photo_catalog, seed=8))


def test_batches_are_full_and_uint8(photo_catalog):
    for batch in batches(photo_catalog):
        assert list(batch) == ["view_1", "view_2"]
        for views in batch.values():
            assert views.shape == (3, 3, 24, 24)
            assert views.dtype == torch.uint8
            assert views.is_contiguous()


def test_the_loader_leaves_the_global_generator_alone(photo_catalog):
    before = torch.get_rng_state()
    batches(photo_catalog)
    assert torch.equal(before, torch.get_rng_state())


def test_orl_batches_from_worker_processes(photo_catalog, tmp_path):
    images = len(photo_catalog)
    boxes = pd.DataFrame({"image": range(images), "roi": 0, "x0": 8, "y0": 8, "x1": 72, "y1": 60})
    pairs = pd.DataFrame({"image": range(images), "rank": 0, "roi": 0, "neighbor_roi": 0})
    pairs["neighbor"] = (pairs["image"] + 1) % images
    write_pairs(tmp_path, write_boxes(tmp_path, boxes), pairs)
    policy = OrlViews(ImageViews(photo_catalog.sizes, size=32), tmp_path, tmp_path, patch_size=16)
    settings = {"seed": 0, "batch_size": 4, "first_step": 0, "last_step": 2}
    for renderer in ("cpu", "device"):
        here, there = (
            [
                batch.on(CPU)
                for batch in training_loader(photo_catalog, policy, workers=w, renderer=renderer, **settings)
            ]
            for w in (0, 1)
        )
        assert equal(here, there)
        assert {name: views.shape[-1] for name, views in here[0].items()} == {
            "view_1": 32, "view_2": 32, "intra_1": 16, "intra_2": 16, "inter_1": 16, "inter_2": 16
        }  # fmt: skip


def test_the_stream_lays_permutations_end_to_end():
    stream = EpochStream(7, seed=1, batch_size=4, first_step=0, last_step=7)
    samples = [sample for batch in stream for sample in batch]
    assert all(len(batch) == 4 for batch in stream)
    assert [epoch for epoch, _ in samples] == sorted([0, 1, 2, 3] * 7)
    orders = [[image for epoch, image in samples if epoch == wanted] for wanted in range(4)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert list(stream)[5:] == list(EpochStream(7, seed=1, batch_size=4, first_step=5, last_step=7))
    assert list(stream) != list(EpochStream(7, seed=2, batch_size=4, first_step=0, last_step=7))


def test_a_batch_may_be_larger_than_the_data_set():
    (batch,) = EpochStream(3, seed=0, batch_size=8, first_step=0, last_step=1)
    assert Counter(epoch for epoch, _ in batch) == {0: 3, 1: 3, 2: 2}
    assert len(set(batch)) == 8  # no view of a photo twice: the epochs differ


def test_every_place_is_equally_likely():
    """Over epochs no photo is favoured by the order."""
    stream = EpochStream(5, seed=0, batch_size=5, first_step=0, last_step=2000)
    first = np.bincount([batch[0][1] for batch in stream])
    assert np.abs(first - 400).max() < 4 * np.sqrt(2000 * 0.2 * 0.8)


def test_no_photos_no_training():
    with pytest.raises(ValueError, match="no photo to train on"):
        EpochStream(0, seed=0, batch_size=2, first_step=0, last_step=1)


def test_a_worker_gets_paths_and_shared_memory_not_tables(photo_catalog, tmp_path, write_catalog):
    write_catalog(tmp_path, photo_catalog.images.loc[np.arange(20_000) % len(photo_catalog)])
    large = Catalog(tmp_path, photo_catalog.root)
    policy = ImageViews(large.sizes, size=24)
    loader = training_loader(large, policy, seed=0, batch_size=2, first_step=0, last_step=1, workers=0)
    # A new process gets a handle on the tensors; what is pickled does not grow with the catalog.
    assert len(bytes(ForkingPickler.dumps(loader.dataset))) < 10_000
    assert policy.sizes.is_shared()


@pytest.mark.parametrize(("workers", "renderer"), [(0, "cpu"), (1, "cpu"), (0, "device")])
def test_an_unreadable_photo_is_replaced_and_named(photo_catalog, tmp_path, workers, renderer):
    catalog = copy_of(photo_catalog, tmp_path)
    catalog.path(3).unlink()
    whole = batches(photo_catalog, renderer=renderer, last_step=8)
    found = loaded(catalog, workers=workers, renderer=renderer, last_step=8)
    stream = EpochStream(8, seed=7, batch_size=3, first_step=0, last_step=8)
    replacements = []
    for samples, batch, expected in zip(stream, found, whole, strict=True):
        lost = [row for row, (_, image) in enumerate(samples) if image == 3]
        assert [photo.image for photo in batch.unreadable] == [3] * len(lost)
        assert all(photo.reason == "missing: no such file" for photo in batch.unreadable)
        views = batch.on(CPU)
        assert views["view_1"].shape == (3, 3, 24, 24)
        for row in range(3):
            assert torch.equal(views["view_1"][row], expected["view_1"][row]) == (row not in lost)
        replacements += [views["view_1"][row] for row in lost]
    assert len(replacements) == 3  # once an epoch, and each time another view
    assert len({bytes(view.numpy()) for view in replacements}) == 3


def test_replacements_do_not_depend_on_workers_or_resumption(photo_catalog, tmp_path):
    catalog = copy_of(photo_catalog, tmp_path)
    for image in (0, 3, 4, 6):
        catalog.path(image).write_bytes(b"")
    whole = loaded(catalog)
    again = loaded(catalog, first_step=2, workers=2)
    assert equal([batch.on(CPU) for batch in whole[2:]], [batch.on(CPU) for batch in again])
    assert [batch.unreadable for batch in whole[2:]] == [batch.unreadable for batch in again]
    assert {photo.image for batch in whole for photo in batch.unreadable} == {0, 3, 4, 6}


def test_a_photo_whose_neighbor_is_unreadable_is_replaced_too(photo_catalog, tmp_path):
    catalog = copy_of(photo_catalog, tmp_path)
    catalog.path(3).unlink()
    boxes = pd.DataFrame({"image": range(8), "roi": 0, "x0": 8, "y0": 8, "x1": 72, "y1": 60})
    pairs = pd.DataFrame(
        {"image": range(8), "rank": 0, "roi": 0, "neighbor_roi": 0, "neighbor": [1, 2, 3, 4, 5, 6, 7, 0]}
    )
    write_pairs(tmp_path, write_boxes(tmp_path, boxes), pairs)
    policy = OrlViews(ImageViews(catalog.sizes, size=32), tmp_path, tmp_path, patch_size=16)
    for renderer in ("cpu", "device"):
        (batch,) = training_loader(
            catalog, policy, seed=0, batch_size=8, first_step=0, last_step=1, workers=0, renderer=renderer
        )
        assert {photo.image for photo in batch.unreadable} == {3}
        assert len(batch.unreadable) >= 2  # as the photo itself and as the neighbour of photo 2
        assert all(len(views) == 8 for views in batch.on(CPU).values())


@pytest.mark.parametrize("workers", [0, 1])
def test_no_readable_photo_ends_the_run_with_the_remedy(photo_catalog, tmp_path, workers):
    catalog = copy_of(photo_catalog, tmp_path)
    for image in range(8):
        catalog.path(image).unlink()
    with pytest.raises(RuntimeError, match=r"5 photos in a row.*could be used .*run again: the catalog notices"):
        loaded(catalog, workers=workers)


def test_a_mistake_of_a_policy_is_no_unreadable_photo(photo_catalog):
    class Mistaken(ImageViews):
        def plan(self, rng, image):
            raise KeyError("a mistake")

    with pytest.raises(KeyError, match="a mistake"):
        next(iter(training_loader(
            photo_catalog, Mistaken(photo_catalog.sizes, size=24), seed=0, batch_size=2, first_step=0, last_step=1,
            workers=0,
        )))  # fmt: skip


@pytest.mark.parametrize("workers", [0, 1])
def test_whole_photos_are_never_replaced(photo_catalog, tmp_path, workers):
    catalog = copy_of(photo_catalog, tmp_path)
    catalog.path(3).unlink()
    with pytest.raises(RuntimeError, match=rf"{catalog.path(3).name} could be used .*run again: the catalog notices"):
        list(photo_loader(catalog, resize=64, crop=56, batch_size=3, workers=workers))


def test_a_photo_that_broke_or_changed_says_so(photo_catalog, tmp_path):
    catalog = copy_of(photo_catalog, tmp_path)
    whole = catalog.path(0).read_bytes()
    catalog.path(0).write_bytes(whole[: len(whole) // 2])
    for read in (Photos(catalog).open, Photos(catalog).decode):
        with pytest.raises(RuntimeError, match=r"no longer can: truncated: the file ends before the picture does"):
            read(0)
    Image.new("RGB", (33, 44)).save(catalog.path(0))
    for read in (Photos(catalog).open, Photos(catalog).decode):
        with pytest.raises(RuntimeError, match=r"it has \(33, 44\) pixels where the catalog promises"):
            read(0)


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (1, 3), (2, 3)])
def test_parts_of_a_batch_laid_end_to_end_are_the_batch(photo_catalog, processes, accumulate):
    settings = {"seed": 3, "batch_size": 12, "first_step": 1, "last_step": 4}
    whole = list(EpochStream(7, **settings))
    parts = [
        list(EpochStream(7, **settings, processes=processes, rank=rank, accumulate=accumulate))
        for rank in range(processes)
    ]
    assert all(len(each) == 3 * accumulate for each in parts)
    for step, batch in enumerate(whole):
        micro_batches = range(step * accumulate, (step + 1) * accumulate)
        assert [s for part in micro_batches for rank in range(processes) for s in parts[rank][part]] == batch


def test_processes_see_the_rows_of_the_joined_batch(photo_catalog):
    settings = {"batch_size": 4, "last_step": 2}
    for renderer in ("cpu", "device"):
        whole = batches(photo_catalog, **settings, renderer=renderer)
        first, second = (
            batches(photo_catalog, **settings, renderer=renderer, processes=2, rank=rank) for rank in (0, 1)
        )
        joined = [{name: torch.cat([a[name], b[name]]) for name in a} for a, b in zip(first, second, strict=True)]
        assert equal(whole, joined)


def test_a_batch_that_cannot_be_divided_is_refused(photo_catalog):
    with pytest.raises(ValueError, match=r"batch_size 6 .* 2 processes x 2 micro-batches.*multiple of 4"):
        loaded(photo_catalog, batch_size=6, processes=2, accumulate=2)


@pytest.mark.parametrize("scaled_decode", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_device_draws_what_workers_would_draw(photo_catalog, workers, scaled_decode):
    drawn = batches(photo_catalog, scaled_decode=scaled_decode)
    packed = batches(photo_catalog, scaled_decode=scaled_decode, renderer="device", workers=workers)
    for one, other in zip(drawn, packed, strict=True):
        assert list(one) == list(other)
        for name in one:
            assert other[name].dtype == torch.uint8
            assert other[name].is_contiguous()
            assert (one[name].float() - other[name].float()).abs().mean() < 0.5  # levels of 0 .. 255


def test_scaled_decoding_draws_the_same_views_more_coarsely(photo_catalog):
    exact, scaled = batches(photo_catalog), batches(photo_catalog, scaled_decode=True)
    differences = [
        (one[name].float() - other[name].float()).abs().mean().item()
        for one, other in zip(exact, scaled, strict=True)
        for name in one
    ]
    assert 0 < max(differences) < 7.0  # levels of 0 .. 255: boxes end half a pixel of the smaller photo elsewhere


def test_photo_loader_equals_torchvision_in_catalog_order(photo_catalog):
    reference = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(56), transforms.PILToTensor()])
    for workers in (0, 1):
        found = list(photo_loader(photo_catalog, resize=64, crop=56, batch_size=3, workers=workers))
        assert torch.cat([numbers for numbers, _ in found]).tolist() == list(range(8))
        assert [len(photos) for _, photos in found] == [3, 3, 2]
        photos = torch.cat([photos for _, photos in found])
        for image in range(8):
            assert torch.equal(photos[image], reference(photo_catalog.decode(image)))


def test_photo_loader_refuses_black_borders(photo_catalog):
    with pytest.raises(ValueError, match="crop=64 is larger than resize=32"):
        photo_loader(photo_catalog, resize=32, crop=64, batch_size=1, workers=0)


def test_views_of_one_sample_can_be_drawn_again(photo_catalog):
    """From (seed, epoch, image) alone, as a gallery or a bug report would."""
    policy = ImageViews(photo_catalog.sizes, size=24)
    (first, *_), *_ = EpochStream(8, seed=7, batch_size=3, first_step=4, last_step=5)
    epoch, image = first
    assert epoch == 1  # step 4 begins with sample 12 of 8 an epoch
    again = render(policy.plan(view_rng(7, epoch, image), image), Photos(photo_catalog).open)
    (batch,) = batches(photo_catalog, first_step=4)
    assert torch.equal(again["view_2"], batch["view_2"][0])
