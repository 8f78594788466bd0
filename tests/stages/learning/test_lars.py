"""LARS against an independent transcription in float64, and against timm and lightly where they do the same.

They do not always: timm 1.0.31 and lightly 1.6.0 divide by |g| + w |p| where BYOL's and SimCLR's code divides by
|g + w p|. The two are equal when there is no weight decay, or when gradient and weights point the same way; else
theirs is longer, so that their steps are shorter. And both leave adaptation out of groups without weight decay (timm
unless `always_adapt`, lightly always), while the papers' code decides by kind of parameter.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightly.utils.lars import LARS as LightlyLars
from timm.optim import Lars as TimmLars
from torch import Tensor, nn

from stages.learning.lars import LARS
from stages.learning.optimizers import make_optimizer

LRS = (0.0, 3.2, 4.8, 4.8, 1.0)
MOMENTUM, DECAY = 0.9, 0.1


def lars_by_hand(
    p: np.ndarray, gradients: list[np.ndarray], lrs: tuple[float, ...], *, decay: float, adapt: bool, lr_inside: bool
) -> np.ndarray:
    """Weights after all steps. `lr_inside`: SimCLR's order, where the learning rate enters the momentum buffer."""
    v = np.zeros_like(p)
    for g, lr in zip(gradients, lrs, strict=True):
        d = g + decay * p
        ratio = 1.0
        if adapt and np.linalg.norm(p) > 0 and np.linalg.norm(d) > 0:
            ratio = 1e-3 * np.linalg.norm(p) / np.linalg.norm(d)
        v = MOMENTUM * v + ratio * d * (lr if lr_inside else 1.0)
        p = p - v * (1.0 if lr_inside else lr)
    return p


class Toy(nn.Module):
    """A matrix, a bank of filters, a bias, a norm's weight, a matrix of zeros; one parameter that gets no gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        shapes = {"matrix": (4, 6), "filters": (5, 3, 2, 2), "bias": (4,), "norm": (6,), "unused": (2, 2)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))
        self.zeros = nn.Parameter(torch.zeros(3, 3))


def optimize(optimizer: torch.optim.Optimizer, module: Toy, gradients: dict[str, list[Tensor]], lrs=LRS) -> None:
    for index, lr in enumerate(lrs):
        for name, parameter in module.named_parameters():
            parameter.grad = gradients[name][index].clone() if name in gradients else None
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()


def random_gradients(module: Toy) -> dict[str, list[Tensor]]:
    torch.manual_seed(1)
    return {name: [0.3 * torch.randn_like(p) for _ in LRS] for name, p in module.named_parameters() if name != "unused"}


def expected(module: Toy, gradients: dict[str, list[Tensor]], lrs=LRS, lr_inside: bool = False) -> dict:
    return {
        name: lars_by_hand(
            p.detach().double().numpy(), [g.double().numpy() for g in gradients[name]], lrs,
            decay=DECAY if p.ndim > 1 else 0.0, adapt=p.ndim > 1, lr_inside=lr_inside,
        )
        for name, p in module.named_parameters() if name in gradients
    }  # fmt: skip


def test_five_steps_agree_with_the_transcription_in_float64():
    module = Toy()
    gradients = random_gradients(module)
    gradients["matrix"][2] = torch.zeros(4, 6)  # its decay alone moves it
    unused = module.unused.detach().clone()
    by_hand = expected(module, gradients)
    optimize(make_optimizer("lars", module, lr=1.0, momentum=MOMENTUM, weight_decay=DECAY), module, gradients)
    for name, value in by_hand.items():
        np.testing.assert_allclose(getattr(module, name).detach().numpy(), value, rtol=2e-5, atol=1e-6, err_msg=name)
    assert torch.equal(module.unused, unused)


def test_at_a_constant_learning_rate_simclr_s_order_is_the_same():
    lrs = (0.5,) * len(LRS)
    module = Toy()
    gradients = random_gradients(module)
    inside = expected(module, gradients, lrs, lr_inside=True)
    outside = expected(module, gradients, lrs)
    optimize(make_optimizer("lars", module, lr=1.0, momentum=MOMENTUM, weight_decay=DECAY), module, gradients, lrs)
    for name in gradients:
        np.testing.assert_allclose(inside[name], outside[name], rtol=1e-12)
        np.testing.assert_allclose(getattr(module, name).detach().numpy(), inside[name], rtol=2e-5, atol=1e-6)


def test_where_weights_or_gradient_are_zero_the_ratio_is_one():
    zeros, weights = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    zeros.grad, weights.grad = torch.full((2, 2), 3.0), torch.zeros(2, 2)
    optimizer = LARS([{"params": [zeros, weights]}], lr=0.1, momentum=0.9)
    optimizer.step()
    torch.testing.assert_close(zeros.detach(), torch.full((2, 2), -0.3))
    assert torch.equal(weights, torch.ones(2, 2))


def test_gradients_are_left_as_they_are():
    module = Toy()
    optimizer = make_optimizer("lars", module, lr=1.0, momentum=MOMENTUM, weight_decay=DECAY)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in module.parameters())


def others(module: Toy, decay: float) -> dict[str, torch.optim.Optimizer]:
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return {
        "timm": TimmLars(groups, lr=1.0, momentum=MOMENTUM, eps=0.0),
        "lightly": LightlyLars(groups, lr=1.0, momentum=MOMENTUM, eps=0.0),
    }


@pytest.mark.parametrize("library", ["timm", "lightly"])
def test_libraries_agree_when_gradient_and_weights_point_the_same_way(library: str):
    module, twin = Toy(), Toy()
    start = {name: p.detach().clone() for name, p in module.named_parameters()}
    # One step: the weights of a second would no longer be parallel to the gradients of the first.
    gradients = {name: [0.1 * p] for name, p in start.items() if name != "unused"}
    lrs = (0.7,)
    optimize(make_optimizer("lars", module, lr=1.0, momentum=MOMENTUM, weight_decay=DECAY), module, gradients, lrs)
    optimize(others(twin, DECAY)[library], twin, gradients, lrs)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, getattr(twin, name), rtol=1e-5, atol=1e-7)


def test_timm_agrees_without_weight_decay_if_told_to_adapt():
    module, twin = Toy(), Toy()
    gradients = random_gradients(module)
    optimize(make_optimizer("lars", module, lr=1.0, momentum=MOMENTUM, weight_decay=0.0), module, gradients)
    matrices = [p for p in twin.parameters() if p.ndim > 1]
    optimize(TimmLars(matrices, lr=1.0, momentum=MOMENTUM, always_adapt=True, eps=0.0), twin, gradients)
    for name in ("matrix", "filters", "zeros"):
        torch.testing.assert_close(getattr(module, name), getattr(twin, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("library", ["timm", "lightly"])
def test_libraries_take_shorter_steps_when_gradient_and_weights_point_apart(library: str):
    module, twin, decay = Toy(), Toy(), 0.5
    start = module.matrix.detach().clone()
    gradients = {"matrix": [torch.randn(4, 6)]}
    optimize(make_optimizer("lars", module, lr=1.0, momentum=MOMENTUM, weight_decay=decay), module, gradients, (1.0,))
    optimize(others(twin, decay)[library], twin, gradients, (1.0,))
    ours, theirs = (module.matrix - start).norm(), (twin.matrix - start).norm()
    torch.testing.assert_close(ours, 1e-3 * start.norm(), rtol=1e-3, atol=0.0)
    assert theirs < 0.95 * ours
