"""LARS: momentum SGD whose step is, for each weight tensor, a fixed share of the tensor's own length.

With weights p, gradient g, weight decay w, momentum m, trust coefficient eta and learning rate lr, for each tensor:

    g <- g + w p
    r <- eta |p| / |g|, or 1 where |p| or |g| is 0
    v <- m v + r g
    p <- p - lr v

Source: You et al. (arXiv:1708.03888), algorithm 1, in the order of BYOL's official code. SimCLR's keeps lr inside v,
which is the same while lr is constant. Biases and norm parameters take part without decay and with r = 1 in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_TRUST = 1e-3  # eta of BYOL and SimCLR


class LARS(torch.optim.Optimizer):
    """See above. A parameter group has `lr`, `momentum`, `weight_decay` and `adapt`: whether r is applied to it.

    State is that of `torch.optim.SGD`: a `momentum_buffer` for each parameter.

    Args:
        parameters: groups of parameters, each with `params`, `weight_decay` and `adapt`.
        lr: learning rate; a schedule sets it in the groups.
    """

    def __init__(self, parameters: Sequence[dict[str, Any]], *, lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapt": True})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure: nothing here evaluates a loss twice
        """One update of every parameter that has a gradient, all tensors of a group at once."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = torch._foreach_add([p.grad for p in weights], weights, alpha=group["weight_decay"])
            buffers = [self._buffer(p) for p in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            if group["adapt"]:
                torch._foreach_addcmul_(buffers, gradients, _trust_ratios(weights, gradients))
            else:
                torch._foreach_add_(buffers, gradients)
            torch._foreach_add_(weights, buffers, alpha=-group["lr"])

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def _trust_ratios(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """r of each tensor, () each, without waiting for the device."""
    p, g = (torch.stack(torch._foreach_norm(list(tensors))) for tensors in (weights, gradients))
    return list(torch.where((p > 0) & (g > 0), _TRUST * p / g, 1.0).unbind())
