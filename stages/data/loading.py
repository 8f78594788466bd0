"""Batches of views for training, and of whole photos for everything else, made by worker processes.

Training reads an endless stream: one permutation of the data set after another. Batches are cut from that stream
wherever they end, so they are always full, and the place in it is `step * batch_size`: resuming needs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as F

from stages.data.batches import Batch, Draws, Maker, Packs, Plan
from stages.data.catalog import Catalog
from stages.data.copies import Copies
from stages.data.photos import Photos
from stages.data.policies import Policy
from stages.data.prefetch import Prefetching
from stages.data.render import Interpolation
from stages.data.unreadable import Unreadable, UnreadablePhoto
from stages.data.views import view_rng
from stages.data.workers import make_loader

Renderer = Literal["cpu", "device"]
Drawn = tuple[np.random.Generator, Plan]  # a plan, and the generator that it was drawn from

_CPU = torch.device("cpu")
_REPLACEMENTS = 4  # tried in turn for a photo that is unreadable


def training_loader(
    catalog: Catalog,
    policy: Policy,
    *,
    seed: int,
    batch_size: int,
    first_step: int,
    last_step: int,
    workers: int,
    renderer: Renderer = "cpu",
    copies: Path | None = None,
    scaled_decode: bool = False,
    interpolation: Interpolation = "bilinear",
    processes: int = 1,
    rank: int = 0,
    accumulate: int = 1,
    device: torch.device = _CPU,
) -> DataLoader | Prefetching:
    """The batches (see `stages.data.batches.Batch`) of steps first_step .. last_step - 1, `accumulate` a step.

    A batch depends on the seed, on which samples are in it and on the settings of drawing: not on `workers`, nor on
    where the run was resumed. A photo that turns out to be unreadable is replaced by another one, so that batches stay
    full; which one depends on the seed, the epoch and the photo alone.

    Args:
        policy: which views of a photo, and what tables of them, see `stages.data.policies`.
        batch_size: photos a step, over all processes and micro-batches; see EpochStream for who gets which.
        workers: processes that decode and draw; 0 does it in this process.
        renderer: "cpu": workers draw the views. "device": workers only decode, and `Batch.on` draws. A batch then holds
            its photos, in shared memory (/dev/shm): under 1 MB a sample of COCO. At most two a worker are waiting.
        copies: directory of a `copies` artifact to draw from instead of the photos.
        scaled_decode, interpolation: see `stages.data.render.render`.
        device: where the batches are used. For a GPU they go into page-locked memory, and from there to the GPU one
            ahead of their use, see `stages.data.prefetch`.

    Raises:
        ValueError: the batch cannot be divided, or the copies are not of this catalog.
        RuntimeError: (while iterating) a photo and all that were to replace it are unreadable.
    """
    stream = EpochStream(
        len(catalog), seed=seed, batch_size=batch_size, first_step=first_step, last_step=last_step,
        processes=processes, rank=rank, accumulate=accumulate,
    )  # fmt: skip
    settings: Any = {"scaled_decode": scaled_decode, "interpolation": interpolation}
    maker: Maker = Draws(**settings) if renderer == "cpu" else Packs(**settings)
    batches = _Batches(Photos(catalog, None if copies is None else Copies(copies)), policy, seed, maker)
    on_gpu = device.type == "cuda"
    loader = make_loader(batches, workers, batch_sampler=stream, collate_fn=_unchanged, pin_memory=on_gpu)
    return Prefetching(loader, device) if on_gpu else loader


def photo_loader(
    catalog: Catalog, *, resize: int, crop: int, batch_size: int, workers: int, first: int = 0
) -> DataLoader:
    """All photos from number `first` on, in the order of the catalog: (image numbers (B,) int64, (B, 3, crop, crop)
    uint8 RGB).

    The shorter side is resized to `resize` pixels (PIL, bilinear with antialiasing), then the centre is cropped.

    Raises:
        ValueError: `crop` is larger than `resize`.
        RuntimeError: (while iterating) a photo is gone, broken or changed since the catalog was made.
    """
    if crop > resize:
        raise ValueError(
            f"crop={crop} is larger than resize={resize}, which would add black borders: lower crop or raise resize."
        )
    remaining = range(first, len(catalog))
    return make_loader(_WholePhotos(catalog, resize, crop), workers, batch_size=batch_size, sampler=remaining)


class EpochStream:
    """The samples (epoch, image) of each micro-batch: epochs are permutations seeded by (seed, epoch), laid end to end.

    Step s takes positions s B .. (s + 1) B - 1 of that stream, B being `batch_size`. They are cut into parts of
    b = B / (accumulate * processes): first those of micro-batch 0, one a process, then those of micro-batch 1. So the
    parts of a step, laid end to end, are the batch that one process alone would have.
    """

    def __init__(
        self,
        images: int,
        *,
        seed: int,
        batch_size: int,
        first_step: int,
        last_step: int,
        processes: int = 1,
        rank: int = 0,
        accumulate: int = 1,
    ) -> None:
        if images < 1:
            raise ValueError("the catalog holds no photo to train on: see its rejected.parquet for the reasons.")
        if batch_size % (processes * accumulate):
            raise ValueError(
                f"batch_size {batch_size} cannot be cut into {processes} processes x {accumulate} micro-batches of one "
                f"size. Use a multiple of {processes * accumulate}."
            )
        self._images, self._seed = images, seed
        self._steps, self._accumulate = range(first_step, last_step), accumulate
        self._processes, self._rank = processes, rank
        self._part = batch_size // (processes * accumulate)

    def __len__(self) -> int:
        return len(self._steps) * self._accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, np.int64)
        for step, micro_batch in product(self._steps, range(self._accumulate)):
            part = (step * self._accumulate + micro_batch) * self._processes + self._rank
            batch = []
            for position in range(part * self._part, (part + 1) * self._part):
                if position // self._images != epoch:
                    epoch = position // self._images
                    order = self._permutation(epoch)
                batch.append((epoch, int(order[position % self._images])))
            yield batch

    def _permutation(self, epoch: int) -> np.ndarray:
        # A spawn key of one number: replacements use two, so that they never share a stream.
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(epoch,))).permutation(self._images)


class _Batches(Dataset):
    """Batches of samples (epoch, image)."""

    def __init__(self, photos: Photos, policy: Policy, seed: int, maker: Maker) -> None:
        self._photos, self._policy, self._seed, self._maker = photos, policy, seed, maker

    def __getitems__(self, samples: list[tuple[int, int]]) -> Batch:
        # All plans first, then all pictures, then all tables: each kind of work is faster in one go.
        drawn = [self._draw(view_rng(self._seed, epoch, image), image) for epoch, image in samples]
        unreadable: list[Unreadable] = []
        self._maker.begin(len(samples))
        shown = [
            self._add(chain([first], self._stand_ins(epoch, image)), unreadable)
            for (epoch, image), first in zip(samples, drawn, strict=True)
        ]
        tables = [self._policy.tables(rng, plan) for rng, plan in shown]
        return self._maker.end(_stacked(tables), unreadable)

    def _draw(self, rng: np.random.Generator, image: int) -> Drawn:
        return rng, self._policy.plan(rng, image)

    def _add(self, candidates: Iterator[Drawn], unreadable: list[Unreadable]) -> Drawn:
        """Adds the first of the plans whose photos can be read, and returns which one that was."""
        last: UnreadablePhoto | None = None
        for rng, plan in candidates:
            try:
                self._maker.add(plan, self._photos.open)
            except UnreadablePhoto as error:
                unreadable.append(error.unreadable)
                last = error
            else:
                return rng, plan
        raise RuntimeError(f"{1 + _REPLACEMENTS} photos in a row, drawn at random, are unreadable. The last: {last}")

    def _stand_ins(self, epoch: int, image: int) -> Iterator[Drawn]:
        """Plans of other photos, drawn from (seed, epoch, image)."""
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(epoch, image)))
        others = max(1, len(self._photos) - 1)
        for _ in range(_REPLACEMENTS):
            yield self._draw(rng, (image + 1 + int(rng.integers(others))) % len(self._photos))


def _stacked(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
    """The tables of all samples, which have the same names."""
    return {name: torch.from_numpy(np.stack([each[name] for each in tables])) for name in tables[0]}


def _unchanged(batch: Batch) -> Batch:
    return batch


class _WholePhotos(Dataset):
    def __init__(self, catalog: Catalog, resize: int, crop: int) -> None:
        self._photos, self._resize, self._crop = Photos(catalog), resize, crop

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, image: int) -> tuple[int, Tensor]:
        photo = F.resize(self._photos.decode(image), self._resize, F.InterpolationMode.BILINEAR)
        return image, F.pil_to_tensor(F.center_crop(photo, [self._crop, self._crop])).contiguous()
