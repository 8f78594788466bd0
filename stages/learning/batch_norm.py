"""Batch norm over more than the batch of one process, or over less."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.learning.distributed import gather, world_size


def synchronize(module: nn.Module, device: torch.device) -> nn.Module:
    """Lets all batch norms of `module` use the statistics of all processes, as if their batches were one.

    On a GPU by PyTorch's SyncBatchNorm, which takes no tensors of a CPU; there by `Synchronized`. Batch norms that
    `split` has made stay as they are. With one process nothing changes.

    Args:
        module: changed in place, unless it is a batch norm itself; its parameters and buffers stay the same tensors.
        device: where it is going to run.
    """
    if world_size() == 1:
        return module
    # timm's function, since PyTorch's drops the activation that many of timm's batch norms end with.
    return _replace(module, convert_sync_batchnorm if device.type == "cuda" else Synchronized)


def split(module: nn.Module, groups: int) -> nn.Module:
    """Lets each batch norm of `module` normalise each of `groups` equal slices of the batch by itself: see `Split`.

    Args:
        module: changed in place, unless it is a batch norm itself; its parameters and buffers stay the same tensors.
        groups: at least 1, which changes nothing.

    Raises:
        ValueError: groups < 1.
    """
    if groups < 1:
        raise ValueError(f"batch norm in {groups} groups: at least 1, where the batch is one group.")
    return module if groups == 1 else _replace(module, partial(Split, groups=groups))


class _Variant(_BatchNorm, ABC):
    """Takes the place of a batch norm: its parameters, buffers and their names, and what timm lets follow on it.

    Subclasses say what happens in train mode: normalise, and update the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False)
        self.affine, self.track_running_stats = norm.affine, norm.track_running_stats
        for name, tensor in (*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False)):
            setattr(self, name, tensor)
        self.drop, self.act = getattr(norm, "drop", nn.Identity()), getattr(norm, "act", nn.Identity())
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
            y = self.normalize(x)
        else:
            y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return self.act(self.drop(y))

    @abstractmethod
    def normalize(self, x: Tensor) -> Tensor:
        """x: (N, C, ...), in train mode. Also calls `track`."""

    def track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """mean, unbiased_variance: (C,), without gradient."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased_variance, self.momentum)


class Synchronized(_Variant):
    """Batch norm by the statistics of the rows of all processes; each must have equally many of them.

    Mean and variance are made of those of each process by differentiable operations, so that the gradient is that of
    one process with all rows.
    """

    def normalize(self, x: Tensor) -> Tensor:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        variance, mean = torch.var_mean(wide, dim=[0, *range(2, x.ndim)], correction=0)  # (C,)
        means, variances = gather(torch.stack([mean, variance])[None]).unbind(dim=1)  # (W, C)
        mean = means.mean(dim=0)
        variance = variances.mean(dim=0) + means.var(dim=0, correction=0)
        n = world_size() * x.numel() // x.shape[1]
        self.track(mean.detach(), variance.detach() * n / (n - 1))

        scale = (variance + self.eps).rsqrt() * (self.weight if self.affine else 1)
        offset = (self.bias if self.affine else 0) - mean * scale
        each_channel = (1, -1) + (1,) * (x.ndim - 2)
        return torch.addcmul(offset.view(each_channel), wide, scale.view(each_channel)).to(x.dtype)


class Split(_Variant):
    """Batch norm of each of `groups` equal slices of the batch by itself: what so many GPUs do that do not synchronise.

    The running statistics follow the mean over the groups. In eval mode nothing differs from a plain batch norm.
    """

    def __init__(self, norm: _BatchNorm, groups: int) -> None:
        super().__init__(norm)
        self.groups = groups

    def normalize(self, x: Tensor) -> Tensor:
        if len(x) % self.groups or len(x) < 2 * self.groups:
            raise ValueError(
                f"batch norm in {self.groups} groups got {len(x)} rows: equally many in each group, and at least 2. "
                f"Choose a batch size that is a multiple of {self.groups}, or fewer groups."
            )
        parts, means, variances = [], [], []
        for part in x.chunk(self.groups):
            mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
            # A momentum of 1 turns the "running" statistics into those of this group.
            parts.append(F.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps))
            means.append(mean)
            variances.append(variance)
        self.track(torch.stack(means).mean(dim=0), torch.stack(variances).mean(dim=0))
        return torch.cat(parts)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, groups={self.groups}"


def _replace(module: nn.Module, make: Callable[[_BatchNorm], nn.Module]) -> nn.Module:
    if isinstance(module, _BatchNorm):
        return module if isinstance(module, _Variant) else make(module)
    for name, child in module.named_children():
        module.add_module(name, _replace(child, make))
    return module
