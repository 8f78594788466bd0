"""Shuffled batch norm: keys are normalised together with other photos' keys than their queries are with queries.

Otherwise the statistics of a batch tell which key belongs to which query, and the network learns from them instead of
from the photos (MoCo, arXiv:1911.05722, section 3.3). It takes batch norm over a part of the batch, not over all of it:
each process has its own part, and `batch_norm.split` makes more of them.

    images, order = shuffle(view, step)           # the photos of all processes, mixed
    keys = unshuffle(key_encoder(images), order)  # the keys of all processes, in the order of the photos again
    own_rows(keys)                                # those of this process
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.learning.distributed import gather_constant, rank, world_size


def groups_per_process(groups: int) -> int:
    """Parts into which each process splits its batch so that there are `groups` in all; 1: processes do not split.

    Raises:
        ValueError: the processes cannot share the groups equally.
    """
    if groups < 1 or (groups > 1 and groups % world_size()):
        raise ValueError(
            f"batch_norm_groups {groups} with {world_size()} processes: each process normalises equally many groups. "
            f"Choose a multiple of {world_size()}, or 1 where each process is one group."
        )
    return max(1, groups // world_size())


def shuffle(images: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Mixes the rows of all processes.

    Args:
        images: (N, ...), any type, N the same in each process.
        step: () int64, decides the order; the same in each process.

    Returns:
        (N, ...), this process's share of the mixed rows, and the order, (W N,) int64, for `unshuffle`.
    """
    rows = gather_constant(images)
    order = permutation(step, len(rows))
    return rows[own_rows(order)], order


def unshuffle(x: Tensor, order: Tensor) -> Tensor:
    """What became of the rows that `shuffle` returned, of all processes, in the order before it; no gradient.

    Args:
        x: (N, ...), made row by row of the shuffled rows.
        order: from `shuffle`.

    Returns:
        (W N, ...).
    """
    return gather_constant(x)[order.argsort()]


def own_rows(x: Tensor) -> Tensor:
    """This process's (N, ...) of the (W N, ...) of all processes."""
    n = len(x) // world_size()
    return x[rank() * n : (rank() + 1) * n]


def permutation(step: Tensor, n: int) -> Tensor:
    """A random-looking order of n rows that follows from `step` alone: the same in each process and after a resume.

    Computed on the device, for which a `torch.Generator` could be seeded only by waiting: n consecutive numbers, others
    in each step, sorted by a hash. It is MurmurHash3's finaliser on 31 bits, a bijection, so that no two are equal.

    Args:
        step: () int64, at least 0.

    Returns:
        (n,) int64 on the device of `step`: each of 0..n-1 once.
    """
    x = (step * n + torch.arange(n, device=step.device)) & 0x7FFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        x = ((x ^ (x >> shift)) * factor) & 0x7FFFFFFF
    return x.argsort()
