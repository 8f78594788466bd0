"""Health figures against what they claim to measure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from stages.learning import metrics


def test_spread_of_even_directions_is_one_over_root_d():
    torch.manual_seed(0)
    std = metrics.embedding_std(3 * torch.randn(4096, 64)).item()
    assert std == pytest.approx(metrics.healthy_std(64), rel=0.01) == pytest.approx(1 / 8, rel=0.01)


def test_spread_agrees_with_numpy():
    z = np.random.default_rng(0).normal(1.0, 1.0, size=(16, 5)).astype(np.float32)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    assert metrics.embedding_std(torch.from_numpy(z)).item() == pytest.approx(unit.std(axis=0).mean(), rel=1e-5)


def test_one_direction_for_all_is_a_collapse_whatever_the_lengths():
    lengths = torch.rand(32, 1) + 0.1
    std = metrics.embedding_std(lengths * torch.randn(1, 64)).item()
    assert std < 1e-6
    assert metrics.is_collapsed(std, 64)
    assert not metrics.is_collapsed(metrics.healthy_std(64) / 2, 64)


def test_the_warning_gives_the_value_the_rule_and_remedies():
    text = metrics.collapse_warning(0.0003, 256, 1200)
    for part in ("step 1200", "0.0003", "1/sqrt(256)", "0.062", "base_lr", "tau", "batch_size"):
        assert part in text


def test_gradient_norm_covers_all_parameters_and_shows_what_is_not_finite():
    net = nn.Linear(2, 1)
    net.weight.grad, net.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    assert metrics.gradient_norm(net.parameters()).item() == pytest.approx(5.0)
    net.bias.grad = torch.tensor([math.nan])
    assert math.isnan(metrics.gradient_norm(net.parameters()).item())
    net.bias.grad = torch.tensor([math.inf])
    assert math.isinf(metrics.gradient_norm(net.parameters()).item())


def test_update_norm_is_relative_to_the_weights_before():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    before = metrics.snapshot([weight])
    with torch.no_grad():
        weight += torch.tensor([0.0, 0.5])
    assert metrics.update_norm(before, [weight]) == pytest.approx(0.1)


def test_stopwatch_counts_former_attempts_and_starts_each_lap_anew():
    watch = metrics.Stopwatch(100.0)
    start = watch._lap_start
    watch.waited(since=start)
    first = watch.lap(10)
    assert watch.seconds >= 100.0
    assert first["images_per_second"] > 0
    assert 0 < first["data_share"] <= 1
    assert watch.lap(10)["data_share"] == 0
