"""Optimizers, and how their learning rate follows the batch size."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

_BATCH_OF_BASE_LR = 256


def scaled_lr(base_lr: float, batch_size: int) -> float:
    """Linear scaling rule (Goyal et al., arXiv:1706.02677, section 2.1): `base_lr` is meant for 256 images."""
    return base_lr * batch_size / _BATCH_OF_BASE_LR


def sgd(parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with momentum and weight decay on all parameters, batch norm and biases too, as in the official ORL code."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    # One fused pass over the weights takes half the time of the default, on CPUs too.
    return torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)
