"""Target networks: copies of a network whose weights follow it as an exponential moving average."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def target_of(online: Module) -> Module:
    """A copy of `online` that takes no gradient.

    It stays in train mode: like the official ORL code (byol.py), a target normalises by the statistics of its own
    batch and keeps its own running averages of them.
    """
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, tau: float) -> None:
    """xi <- tau xi + (1 - tau) theta, for parameters alone; buffers (batch-norm statistics) are the target's own.

    Source: BYOL (arXiv:2006.07733), equation 1.
    """
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - tau)
