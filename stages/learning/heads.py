"""Heads on top of a backbone."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

from torch import nn

Norm = Literal["hidden", "all", "none"]


def mlp(dim_in: int, hidden: int, dim_out: int, *, layers: int = 2, norm: Norm = "hidden") -> nn.Sequential:
    """`layers` linear layers with ReLU in between; where batch norm stands is what the methods differ in.

    "hidden": linear, batch norm, ReLU, ..., linear without bias: BYOL's projector and predictor, as its code and ORL's
    have them. Section 3.3 of BYOL names a final linear layer; both leave out its bias.

    "all": linear without bias, batch norm, ReLU, ..., linear without bias, batch norm whose offset stays 0: the
    projector of SimCLR's code (model_util.py, projection_head).

    "none": linear, ReLU, ..., linear: MoCo v2's and DenseCL's projector.

    Weights start as in ORL's code (Kaiming normal by fan in, biases 0); those of "none" as PyTorch has them, as in
    MoCo's code.

    Args:
        dim_in, hidden, dim_out: width of the input, of each layer but the last, and of the output.
        layers: at least 1.

    Raises:
        ValueError: `layers` or `norm` is none of these.
    """
    if layers < 1:
        raise ValueError(f"a head of {layers} layers: at least 1. 2 is what the papers have.")
    if norm not in get_args(Norm):
        raise ValueError(f"norm '{norm}' of a head is not known. Choose one of {', '.join(get_args(Norm))}.")
    widths = [dim_in] + [hidden] * (layers - 1) + [dim_out]
    head = nn.Sequential()
    for number, (width_in, width_out) in enumerate(pairwise(widths), start=1):
        last = number == layers
        normed = norm == "all" or (norm == "hidden" and not last)
        head.append(nn.Linear(width_in, width_out, bias=norm == "none" or (norm == "hidden" and not last)))
        if normed:
            head.append(nn.BatchNorm1d(width_out))
        if not last:
            head.append(nn.ReLU(inplace=True))
    if norm == "all":
        head[-1].bias.requires_grad_(False)
    if norm != "none":
        for layer in head:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    return head
