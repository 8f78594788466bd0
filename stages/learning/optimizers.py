"""Optimizers, and how their learning rate follows the batch size."""

from __future__ import annotations

import torch
from torch import nn

from stages.learning.lars import LARS

OPTIMIZERS = ("sgd", "lars", "adamw")

_BATCH_OF_BASE_LR = 256
_BETA_2 = 0.999


def scaled_lr(base_lr: float, batch_size: int) -> float:
    """Linear scaling rule (Goyal et al., arXiv:1706.02677, section 2.1): `base_lr` is meant for 256 images."""
    return base_lr * batch_size / _BATCH_OF_BASE_LR


def make_optimizer(
    name: str, module: nn.Module, *, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimizer of the parameters of `module` that take a gradient.

    Args:
        name: "sgd": momentum and weight decay on all parameters, batch norm and biases too, as in the official ORL and
            MoCo code. "lars": see `stages.learning.lars`. "adamw": Loshchilov and Hutter (arXiv:1711.05101). These two
            leave biases and norm parameters, which have one dimension or none, out of the decay, and LARS out of its
            adaptation, as BYOL's code does.
        momentum: of sgd and lars; beta 1 of adamw, whose beta 2 is 0.999.

    Raises:
        ValueError: the name is none of these.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # One fused pass over the weights takes half the time of the default, on CPUs too.
    if name == "sgd":
        sgd = torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)
        if momentum > 0:
            # From 0, as it would by itself; but made in a first step that fp16 skips it would be left as garbage.
            for parameter in trained:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, _BETA_2), fused=True)
    if name == "lars":
        weights, others = groups
        return LARS([weights | {"adapt": True}, others | {"adapt": False}], lr=lr, momentum=momentum)
    raise ValueError(f"optimizer '{name}' is not known. Choose one of {', '.join(OPTIMIZERS)}.")
