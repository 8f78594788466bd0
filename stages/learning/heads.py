"""Heads on top of a backbone."""

from __future__ import annotations

from torch import nn


def mlp(dim_in: int, hidden: int, dim_out: int) -> nn.Sequential:
    """Linear, batch norm, ReLU, linear without bias: BYOL's projector and predictor as ORL's code has them.

    BYOL, section 3.3 names a final linear layer; the official ORL code leaves out its bias, and so do we. Linear
    weights are initialised as in that code (Kaiming, fan in).
    """
    layers = nn.Sequential(
        nn.Linear(dim_in, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, dim_out, bias=False),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return layers
