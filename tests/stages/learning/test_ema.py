"""Target networks follow the parameters of the online network and nothing else."""

from __future__ import annotations

import torch
from torch import nn

from stages.learning.ema import follow, target_of


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_a_target_is_an_equal_copy_that_takes_no_gradient():
    online = net()
    target = target_of(online)

    for ours, theirs in zip(target.parameters(), online.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
        assert not ours.requires_grad
        assert theirs.requires_grad
    assert target.training, "a target normalises by its own batch"


def test_parameters_move_by_the_rate_and_buffers_stay():
    online, target = net(), net()
    target(torch.randn(8, 3))
    online(torch.randn(8, 3) + 7)
    expected = [0.9 * x + 0.1 * t for x, t in zip(target.parameters(), online.parameters(), strict=True)]
    buffers = [buffer.clone() for buffer in target.buffers()]

    follow(target, online, 0.9)

    for parameter, value in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter, value)
    for buffer, before in zip(target.buffers(), buffers, strict=True):
        assert torch.equal(buffer, before)


def test_the_ends_of_the_rate():
    online, target = net(), net()
    nn.init.normal_(online[0].weight)
    before = target[0].weight.detach().clone()
    follow(target, online, 1.0)
    assert torch.equal(target[0].weight, before)
    follow(target, online, 0.0)
    assert torch.equal(target[0].weight, online[0].weight)
