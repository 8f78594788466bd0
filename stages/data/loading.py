"""Batches of views for training, and of whole photos for everything else, made by worker processes.

Training reads an endless stream: one permutation of the data set after another. Batches are cut from that stream
wherever they end, so they are always full, and the place in it is `step * batch_size`: resuming needs nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as F

from stages.data.catalog import Catalog
from stages.data.policies import Policy
from stages.data.render import Interpolation, render
from stages.data.views import view_rng
from stages.process import init_worker


def training_loader(
    catalog: Catalog,
    policy: Policy,
    *,
    seed: int,
    batch_size: int,
    first_step: int,
    last_step: int,
    workers: int,
    scaled_decode: bool = False,
    interpolation: Interpolation = "bilinear",
    pin_memory: bool = False,
) -> DataLoader:
    """The batches of steps first_step .. last_step - 1, one dict a step: name of the view -> (B, 3, S, S) uint8 RGB.

    A batch depends on `seed`, `batch_size` and its step alone: not on `workers`, nor on where the run was resumed.

    Args:
        policy: which views of a photo, see `stages.data.policies`.
        workers: processes that decode and draw; 0 does it in this process.
        scaled_decode, interpolation: see `stages.data.render.render`.
        pin_memory: put batches into page-locked memory, from which they go to a GPU without waiting.

    Raises:
        RuntimeError: (while iterating) a photo is gone, broken or changed since the catalog was made.
    """
    samples = EpochStream(len(catalog), seed=seed, batch_size=batch_size, first_step=first_step, last_step=last_step)
    views = _Views(catalog, policy, seed, scaled_decode, interpolation)
    return _loader(views, workers, batch_sampler=samples, pin_memory=pin_memory)


def photo_loader(catalog: Catalog, *, resize: int, crop: int, batch_size: int, workers: int) -> DataLoader:
    """All photos in the order of the catalog: (image numbers (B,) int64, (B, 3, crop, crop) uint8 RGB).

    The shorter side is resized to `resize` pixels (PIL, bilinear with antialiasing), then the centre is cropped.

    Raises:
        ValueError: `crop` is larger than `resize`.
        RuntimeError: (while iterating) a photo is gone, broken or changed since the catalog was made.
    """
    if crop > resize:
        raise ValueError(
            f"crop={crop} is larger than resize={resize}, which would add black borders: lower crop or raise resize."
        )
    return _loader(_WholePhotos(catalog, resize, crop), workers, batch_size=batch_size)


class EpochStream:
    """The samples (epoch, image) of each step: epochs are permutations seeded by (seed, epoch), laid end to end."""

    def __init__(self, images: int, *, seed: int, batch_size: int, first_step: int, last_step: int) -> None:
        if images < 1:
            raise ValueError("the catalog holds no photo to train on: see its rejected.parquet for the reasons.")
        self._images, self._seed, self._batch_size = images, seed, batch_size
        self._steps = range(first_step, last_step)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, np.int64)
        for step in self._steps:
            batch = []
            for position in range(step * self._batch_size, (step + 1) * self._batch_size):
                if position // self._images != epoch:
                    epoch = position // self._images
                    order = self._permutation(epoch)
                batch.append((epoch, int(order[position % self._images])))
            yield batch

    def _permutation(self, epoch: int) -> np.ndarray:
        # A spawn key of one number: `view_rng` uses two, so that the order and the views never share a stream.
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(epoch,))).permutation(self._images)


class _Photos:
    """Opens photos of a catalog. Pickles as two paths: each worker reads the catalog's table for itself."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __getstate__(self) -> tuple[Path, Path]:
        return self._catalog.directory, self._catalog.root

    def __setstate__(self, state: tuple[Path, Path]) -> None:
        self._catalog = Catalog(*state)

    def __len__(self) -> int:
        return len(self._catalog)

    def open(self, image: int, reduction: int = 1) -> Image.Image:
        """The upright RGB photo, ceil(side / reduction) pixels a side.

        Raises:
            RuntimeError: it is gone, broken or of another size than the catalog says.
        """
        expected = tuple(-(-int(side) // reduction) for side in self._catalog.sizes[image])
        try:
            photo = self._catalog.decode(image, reduction)
        except Exception as error:  # a damaged file may raise nearly anything inside PIL's decoders
            raise self._changed(image, f"{type(error).__name__}: {error}") from error
        if photo.size != expected:
            raise self._changed(image, f"it has {photo.size} pixels where the catalog promises {expected}")
        return photo

    def _changed(self, image: int, reason: str) -> RuntimeError:
        return RuntimeError(
            f"{self._catalog.path(image)} could be used when the catalog was made, and no longer can: {reason}. "
            "Bring the file back, or run again: the catalog notices the change and leaves out what is unusable."
        )


class _Views(Dataset):
    """The rendered views of a sample (epoch, image)."""

    def __init__(
        self, catalog: Catalog, policy: Policy, seed: int, scaled_decode: bool, interpolation: Interpolation
    ) -> None:
        self._photos, self._policy, self._seed = _Photos(catalog), policy, seed
        self._scaled_decode: bool = scaled_decode
        self._interpolation: Interpolation = interpolation

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        epoch, image = sample
        plan = self._policy.plan(view_rng(self._seed, epoch, image), image)
        return render(plan, self._photos.open, scaled_decode=self._scaled_decode, interpolation=self._interpolation)


class _WholePhotos(Dataset):
    def __init__(self, catalog: Catalog, resize: int, crop: int) -> None:
        self._photos, self._resize, self._crop = _Photos(catalog), resize, crop

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, image: int) -> tuple[int, Tensor]:
        photo = F.resize(self._photos.open(image), self._resize, F.InterpolationMode.BILINEAR)
        return image, F.pil_to_tensor(F.center_crop(photo, [self._crop, self._crop])).contiguous()


def _loader(dataset: Dataset, workers: int, **settings: Any) -> DataLoader:
    return DataLoader(
        dataset,
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
        multiprocessing_context=_worker_context() if workers else None,
        # Its own generator: the loader must not advance PyTorch's global one, or a resumed run would differ.
        generator=torch.Generator(),
        **settings,
    )


def _worker_context() -> BaseContext:
    """Workers are forked from a clean server process that has imported this module once.

    Forking the training process itself would copy the locks of its threads (OpenMP, CUDA) in whatever state they are
    in; spawning costs each worker an import of PyTorch, in seconds and in memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start_worker(worker_id: int) -> None:
    """`init_worker`, and one thing more: to the kernel this worker's parent is the fork server, not our process.

    The server lives as long as any worker does, so neither would notice that our process was killed.
    """
    init_worker(worker_id)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
