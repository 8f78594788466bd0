"""Batches: the same for any number of workers and any point of resumption, full, and clear about missing photos."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import transforms

from stages.data.catalog import Catalog
from stages.data.loading import EpochStream, photo_loader, training_loader
from stages.data.policies import ImageViews, OrlViews
from stages.data.render import render
from stages.data.views import view_rng

Batches = list[dict[str, torch.Tensor]]


def batches(catalog: Catalog, *, workers: int = 0, first_step: int = 0, last_step: int = 5, **settings) -> Batches:
    policy = ImageViews(catalog.sizes, size=24)
    loader = training_loader(
        catalog, policy, seed=settings.pop("seed", 7), batch_size=3, first_step=first_step, last_step=last_step,
        workers=workers, **settings,
    )  # fmt: skip
    assert len(loader) == last_step - first_step
    return list(loader)


def equal(first: Batches, second: Batches) -> bool:
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
    catalog.images.to_parquet(out / "images.parquet")
    return Catalog(out, out / "photos")


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


def test_orl_batches_from_worker_processes(photo_catalog):
    images = len(photo_catalog)
    boxes = pd.DataFrame({"image": range(images), "roi": 0, "x0": 8, "y0": 8, "x1": 72, "y1": 60})
    pairs = pd.DataFrame({"image": range(images), "rank": 0, "roi": 0, "neighbor_roi": 0})
    pairs["neighbor"] = (pairs["image"] + 1) % images
    policy = OrlViews(ImageViews(photo_catalog.sizes, size=32), boxes, pairs, patch_size=16)
    settings = {"seed": 0, "batch_size": 4, "first_step": 0, "last_step": 2}
    here = list(training_loader(photo_catalog, policy, workers=0, **settings))
    assert equal(here, list(training_loader(photo_catalog, policy, workers=1, **settings)))
    assert [views.shape[-1] for views in here[0].values()] == [32, 32, 16, 16, 16, 16]


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


def test_a_worker_gets_paths_and_shared_memory_not_tables(photo_catalog, tmp_path):
    photo_catalog.images.loc[np.arange(20_000) % len(photo_catalog)].to_parquet(tmp_path / "images.parquet")
    large = Catalog(tmp_path, photo_catalog.root)
    policy = ImageViews(large.sizes, size=24)
    loader = training_loader(large, policy, seed=0, batch_size=2, first_step=0, last_step=1, workers=0)
    # A new process gets a handle on the tensors; what is pickled does not grow with the catalog.
    assert len(bytes(ForkingPickler.dumps(loader.dataset))) < 10_000
    assert policy.sizes.is_shared()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_vanished_is_named_with_the_remedy(photo_catalog, tmp_path, workers):
    catalog = copy_of(photo_catalog, tmp_path)
    catalog.path(3).unlink()
    with pytest.raises(RuntimeError, match=rf"{catalog.path(3).name} could be used .*run again: the catalog notices"):
        batches(catalog, workers=workers)


def test_a_photo_that_broke_or_changed_is_named(photo_catalog, tmp_path):
    catalog = copy_of(photo_catalog, tmp_path)
    whole = catalog.path(0).read_bytes()
    catalog.path(0).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError, match=r"no longer can: OSError: .*truncated"):
        batches(catalog)
    Image.new("RGB", (33, 44)).save(catalog.path(0))
    with pytest.raises(RuntimeError, match=r"it has \(33, 44\) pixels where the catalog promises"):
        batches(catalog)


def test_scaled_decoding_draws_the_same_views_more_coarsely(photo_catalog):
    exact, scaled = batches(photo_catalog), batches(photo_catalog, scaled_decode=True)
    differences = [
        (one[name].float() - other[name].float()).abs().mean().item()
        for one, other in zip(exact, scaled, strict=True)
        for name in one
    ]
    assert 0 < max(differences) < 5.0  # levels of 0 .. 255


def test_photo_loader_equals_torchvision_in_catalog_order(photo_catalog):
    reference = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(56), transforms.PILToTensor()])
    for workers in (0, 1):
        loaded = list(photo_loader(photo_catalog, resize=64, crop=56, batch_size=3, workers=workers))
        assert torch.cat([numbers for numbers, _ in loaded]).tolist() == list(range(8))
        assert [len(photos) for _, photos in loaded] == [3, 3, 2]
        photos = torch.cat([photos for _, photos in loaded])
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
    again = render(policy.plan(view_rng(7, epoch, image), image), photo_catalog.decode)
    (batch,) = batches(photo_catalog, first_step=4)
    assert torch.equal(again["view_2"], batch["view_2"][0])


KILLED_PARENT = """
import os, signal, sys
from pathlib import Path
from stages.data.catalog import Catalog
from stages.data.loading import photo_loader

if __name__ == "__main__":
    catalog = Catalog(Path(sys.argv[1]), Path(sys.argv[2]))
    loader = iter(photo_loader(catalog, resize=32, crop=32, batch_size=1, workers=2))
    next(loader)
    print(*(worker.pid for worker in loader._workers), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_die_with_a_killed_parent(photo_catalog, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED_PARENT)
    ran = subprocess.run(
        [sys.executable, script, photo_catalog.directory, photo_catalog.root],
        cwd=Path(__file__).parents[3], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE, timeout=120,
    )  # fmt: skip
    assert ran.returncode == -signal.SIGKILL
    workers = [Path("/proc") / pid for pid in ran.stdout.decode().split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(worker.exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(worker.exists() for worker in workers)
