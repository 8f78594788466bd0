"""SGD against its update rule, and the linear scaling of the learning rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.learning.optimizers import scaled_lr, sgd


def test_the_learning_rate_follows_the_batch():
    assert scaled_lr(0.2, 512) == pytest.approx(0.4), "ORL's learning rate on COCO"
    assert scaled_lr(0.2, 256) == pytest.approx(0.2)
    assert scaled_lr(0.2, 32) == pytest.approx(0.025)


def test_two_steps_by_hand_with_weight_decay_on_every_parameter():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    lr, momentum, decay = 0.1, 0.9, 0.05
    expected = [p.detach().clone() for p in net.parameters()]
    velocity = [torch.zeros_like(p) for p in expected]
    optimizer = sgd(net.parameters(), lr=lr, momentum=momentum, weight_decay=decay)

    for step in range(2):
        for index, parameter in enumerate(net.parameters()):
            parameter.grad = torch.full_like(parameter, float(step + index))
            velocity[index] = momentum * velocity[index] + parameter.grad + decay * expected[index]
            expected[index] = expected[index] - lr * velocity[index]
        optimizer.step()

    for parameter, value in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


def test_frozen_parameters_are_left_out():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    optimizer = sgd(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
    assert len(optimizer.param_groups[0]["params"]) == 2
