"""One step of a training, as the loop takes it, without what it logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stages.learning.devices import autocast, deterministic, memory_format
from stages.learning.optimizers import make_optimizer

Step = Callable[[], None]

SGD: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}


def training_step(method: Any, batch: Mapping[str, Tensor], precision: str, device: torch.device) -> Step:
    """Forward, loss, backward, optimizer and moving average. batch: on `device`, as data workers make it."""
    method.train().to(device, memory_format=memory_format(precision, device))
    optimizer = make_optimizer("sgd", method, **SGD)

    def step() -> None:
        with deterministic(device):
            optimizer.zero_grad(set_to_none=True)
            with autocast(precision, device):
                loss = method(batch).loss
            loss.backward()
            optimizer.step()
            method.after_step(0.5)

    return step


def finished(step: Step, device: torch.device) -> Step:
    """`step`, and the wait until the device has done it."""

    def whole() -> None:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return whole
