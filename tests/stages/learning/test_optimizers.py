"""SGD and AdamW against their update rules, which parameters decay, and the linear scaling of the learning rate."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from stages.learning.devices import make_scaler
from stages.learning.optimizers import OPTIMIZERS, make_optimizer, scaled_lr

CPU = torch.device("cpu")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def step(module: nn.Module, optimizer: torch.optim.Optimizer, factor: float = 1.0) -> None:
    optimizer.zero_grad()
    (factor * module(torch.randn(8, 3)).square().sum()).backward()
    optimizer.step()


def test_the_learning_rate_follows_the_batch():
    assert scaled_lr(0.2, 512) == pytest.approx(0.4), "ORL's learning rate on COCO"
    assert scaled_lr(0.2, 256) == pytest.approx(0.2)
    assert scaled_lr(0.2, 4096) == pytest.approx(3.2), "BYOL's of 1000 epochs"


def test_two_steps_of_sgd_by_hand_with_weight_decay_on_every_parameter():
    module, lr, momentum, decay = net(), 0.1, 0.9, 0.05
    expected = [p.detach().clone() for p in module.parameters()]
    velocity = [torch.zeros_like(p) for p in expected]
    optimizer = make_optimizer("sgd", module, lr=lr, momentum=momentum, weight_decay=decay)
    for step in range(2):
        for index, parameter in enumerate(module.parameters()):
            parameter.grad = torch.full_like(parameter, float(step + index))
            velocity[index] = momentum * velocity[index] + parameter.grad + decay * expected[index]
            expected[index] = expected[index] - lr * velocity[index]
        optimizer.step()
    for parameter, value in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


def test_three_steps_of_adamw_by_hand_with_weight_decay_on_matrices_alone():
    """Loshchilov and Hutter (arXiv:1711.05101), algorithm 2; `momentum` is beta 1."""
    module, lr, beta_1, beta_2, decay = net(), 0.01, 0.8, 0.999, 0.3
    expected = [p.detach().double().numpy() for p in module.parameters()]
    m = [np.zeros_like(p) for p in expected]
    v = [np.zeros_like(p) for p in expected]
    optimizer = make_optimizer("adamw", module, lr=lr, momentum=beta_1, weight_decay=decay)
    for k in range(1, 4):
        for index, parameter in enumerate(module.parameters()):
            parameter.grad = torch.randn_like(parameter)
            g = parameter.grad.double().numpy()
            m[index] = beta_1 * m[index] + (1 - beta_1) * g
            v[index] = beta_2 * v[index] + (1 - beta_2) * g**2
            adam = m[index] / (1 - beta_1**k) / (np.sqrt(v[index] / (1 - beta_2**k)) + 1e-8)
            expected[index] = expected[index] - lr * (adam + (decay if g.ndim > 1 else 0.0) * expected[index])
        optimizer.step()
    for parameter, value in zip(module.parameters(), expected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-5)


@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_biases_and_norms_are_left_out_of_the_decay(name: str):
    module = net()
    optimizer = make_optimizer(name, module, lr=0.1, momentum=0.9, weight_decay=0.3)
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay_of) == len(list(module.parameters()))
    for key, parameter in module.named_parameters():
        assert decay_of[id(parameter)] == (0.3 if key in ("0.weight", "3.weight") else 0.0), key


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_parameters_are_left_out(name: str):
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    optimizer = make_optimizer(name, module, lr=0.1, momentum=0.9, weight_decay=0.0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_state_goes_on_with_the_same_weights(name: str):
    module = net()
    optimizer = make_optimizer(name, module, lr=0.1, momentum=0.9, weight_decay=0.01)
    step(module, optimizer)
    twin = copy.deepcopy(module)
    other = make_optimizer(name, twin, lr=9.0, momentum=0.9, weight_decay=0.01)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, its in ((module, optimizer), (twin, other)):
        torch.manual_seed(1)
        step(each, its)
    for first, second in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scaled_gradients_change_weights_as_plain_ones_and_an_overflow_changes_nothing(name: str):
    """With fp16's scaler, unscaled before the step as for clipping."""
    module = net()
    twin = copy.deepcopy(module)
    scaler = make_scaler("fp16", CPU)
    arguments = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    optimizer, plain = make_optimizer(name, module, **arguments), make_optimizer(name, twin, **arguments)
    for factor in (1.0, float("inf"), 1.0):
        x = torch.randn(8, 3)
        optimizer.zero_grad()
        scaler.scale(factor * module(x).square().sum()).backward()
        scaler.unscale_(optimizer)
        before, scale = [p.detach().clone() for p in module.parameters()], scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if factor == 1.0:
            plain.zero_grad()
            twin(x).square().sum().backward()
            plain.step()
        else:
            assert all(torch.equal(p, old) for p, old in zip(module.parameters(), before, strict=True))
            assert scaler.get_scale() == scale / 2
    for first, second in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(first, second)


def test_an_unknown_optimizer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'adam' is not known.*sgd, lars, adamw"):
        make_optimizer("adam", net(), lr=0.1, momentum=0.9, weight_decay=0.0)
