"""SGD for the evaluation protocols: Nesterov's momentum, and a rate of its own for what is put on top of a backbone.

Pretraining has its own, `stages.learning.optimizers`: one rate for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

# From a model to the groups of its parameters, as torch's optimizers take them: {"params": [...], "lr": ...}.
Groups = Callable[[nn.Module], Iterable[Mapping[str, Any]]]


def sgd(
    model: nn.Module,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    groups: Groups | None = None,
) -> torch.optim.SGD:
    """SGD of the parameters of `model` that take a gradient; for `train_task` as `partial(sgd, lr=0.01)`.

    Args:
        lr, momentum, weight_decay: of every group that has none of its own.
        groups: which parameters form which group; None for a single one.
    """
    made = [{"params": list(model.parameters())}] if groups is None else [dict(group) for group in groups(model)]
    for group in made:
        group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]
    made = [group for group in made if group["params"]]
    optimizer = torch.optim.SGD(
        made, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )
    if momentum > 0:
        # From 0, as it would by itself; but made in a first step that fp16 skips it would be left as garbage.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
