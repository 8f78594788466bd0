"""While a GPU works on one batch, the next one is uploaded and drawn beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from stages.data.batches import Batch
from stages.data.unreadable import Unreadable


class ReadyBatch(NamedTuple):
    """A batch that lies on its device, or will by the time that `event` has happened."""

    tensors: dict[str, Tensor]  # views and tables
    event: torch.cuda.Event | None
    unreadable: list[Unreadable]

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """Views and tables, for use on the current stream of `device`, where they are already."""
        if self.event is not None:
            stream = torch.cuda.current_stream(device)
            stream.wait_event(self.event)
            for tensor in self.tensors.values():
                tensor.record_stream(stream)  # its memory may be used again when this stream is done with it, no sooner
        return self.tensors


class Prefetching:
    """The batches of `loader`, put on `device` ahead of their use: see `prefetch`."""

    def __init__(self, loader: DataLoader, device: torch.device) -> None:
        self.loader, self.device = loader, device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return prefetch(self.loader, self.device)


def prefetch(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """`batches`, each put on `device` one ahead of its use: on a GPU on a stream of its own.

    A thread does it, because to tell a GPU of the thousands of small operations that draw a batch takes the host tens
    of milliseconds: they pass while the training thread waits for the result of its step. Errors are raised where the
    batch is asked for. Costs the memory of one more batch on the device.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    source = iter(batches)

    def prepare() -> ReadyBatch | None:
        batch = next(source, None)
        if batch is None:
            return None
        with torch.cuda.stream(stream):  # does nothing for None
            tensors = batch.on(device)
            return ReadyBatch(tensors, None if stream is None else stream.record_event(), batch.unreadable)

    with ThreadPoolExecutor(1, "prefetch") as thread:
        ahead = thread.submit(prepare)
        while (batch := ahead.result()) is not None:
            ahead = thread.submit(prepare)
            yield batch
