"""What `train_task` trains on: samples that depend on (seed, epoch, index) alone, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages.data.loading import EpochStream
from stages.data.workers import make_loader


class TaskData(Protocol):
    """Samples to train on, read in worker processes: it must pickle, best as paths (a `Catalog` does).

    `data[index, epoch]` is sample `index`, 0 .. len - 1, as `epoch` shows it: what is drawn at random is drawn from
    (seed, epoch, index) alone, see `stages.data.views.view_rng`, so that a resume repeats nothing and loses nothing.
    `collate` makes a batch of samples: tensors in dicts, lists and tuples, nested in any way.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, sample: tuple[int, int], /) -> Any: ...

    def collate(self, samples: list[Any], /) -> Any: ...


def task_loader(data: TaskData, stream: EpochStream, workers: int, device: torch.device) -> DataLoader:
    """The batches of `data` in the order of `stream`; for a GPU in page-locked memory."""
    return make_loader(
        _Samples(data), workers, batch_sampler=stream, collate_fn=data.collate, pin_memory=device.type == "cuda"
    )


def moved(batch: Any, device: torch.device) -> Any:
    """`batch` with each tensor of its dicts, lists and tuples on `device`; from page-locked memory it does not wait."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: moved(item, device) for name, item in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(moved(item, device) for item in batch)
    return batch


class _Samples(Dataset):
    """Reads `data` by the numbers that `EpochStream` gives: (epoch, index)."""

    def __init__(self, data: TaskData) -> None:
        self._data = data

    def __getitem__(self, sample: tuple[int, int]) -> Any:
        epoch, index = sample
        return self._data[index, epoch]
