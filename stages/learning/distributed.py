"""One process or many: who am I, and how tensors of all processes come together.

Without a process group everything here behaves as with one process, so that no caller has to ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from stages.process import launched, local_rank

Item = TypeVar("Item")

# A process that waits longer for the others gives up: longer than a probe, a checkpoint or a slow disk takes.
_PATIENCE = timedelta(minutes=30)


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that `torch.distributed.run` has started, for the time of the block. Alone it does nothing.

    GPUs exchange tensors by NCCL, everything on the CPU (also beside GPUs) goes by Gloo.
    """
    if not launched():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; gradients flow back to where the rows came from.

    The gradient of a row is the sum of those that it gets in each process. Since `DistributedDataParallel` averages
    over processes, losses that are means over the rows of each process then have the gradient of the mean over all.

    Args:
        x: (N, ...) floats, N the same in each process.

    Returns:
        (W N, ...).
    """
    return _Gather.apply(x) if world_size() > 1 else x


@torch.no_grad()
def gather_constant(x: Tensor) -> Tensor:
    """As `gather`, for any type and without gradient."""
    return _all_rows(x) if world_size() > 1 else x


def any_process(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is set in at least one process. Every process gets the same answer."""
    if world_size() == 1:
        return flags
    numbers = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    return tuple(bool(number) for number in numbers)


def mean_of_processes(x: Tensor) -> Tensor:
    """The mean of a tensor over processes, on the CPU."""
    x = x.detach().to("cpu", copy=True)
    if world_size() > 1:
        dist.all_reduce(x)
        x /= world_size()
    return x


def local_device(device: torch.device) -> torch.device:
    """`device`, but of several processes on a machine each gets the GPU of its own number."""
    return torch.device("cuda", local_rank()) if device.type == "cuda" and launched() else device


def all_of_processes(item: Item) -> list[Item]:
    """The items of all processes in the order of their ranks. Items are small; they travel pickled between our own."""
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def union_of_processes(items: Iterable[Item]) -> set[Item]:
    return set().union(*all_of_processes(set(items)))


def from_first_process(item: Item) -> Item:
    """What the process of rank 0 passes; what the others pass is not looked at."""
    if world_size() == 1:
        return item
    items = [item]
    dist.broadcast_object_list(items, src=0)
    return items[0]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return _all_rows(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        first = rank() * ctx.rows
        return gradient[first : first + ctx.rows]


def _all_rows(x: Tensor) -> Tensor:
    rows = x.new_empty((world_size() * len(x), *x.shape[1:]))
    dist.all_gather_into_tensor(rows, x.contiguous())
    return rows
