"""Heads layer by layer, against the formulas written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stages.learning.heads import mlp


def normed(x: Tensor) -> Tensor:
    return (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + 1e-5).sqrt()


def kinds(head: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in head]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(16, 5, generator=torch.Generator().manual_seed(0))


def test_norm_in_hidden_layers_alone(x: Tensor):
    head = mlp(5, 7, 3, layers=3)
    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    first, _, _, second, _, _, last = head
    h = normed(x @ first.weight.T).relu()  # biases start at 0, and batch norm removes them anyway
    h = normed(h @ second.weight.T).relu()
    torch.testing.assert_close(head(x), h @ last.weight.T)
    assert first.bias is not None
    assert last.bias is None
    assert {name for name, _ in mlp(5, 7, 3).named_parameters()} == {
        "0.weight", "0.bias", "1.weight", "1.bias", "3.weight",
    }  # fmt: skip  # the names in files written so far


def test_norm_in_all_layers(x: Tensor):
    head = mlp(5, 7, 3, norm="all")
    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    first, hidden_norm, _, last, last_norm = head
    torch.testing.assert_close(head(x), normed(normed(x @ first.weight.T).relu() @ last.weight.T))
    assert first.bias is None
    assert last.bias is None

    (head(x) ** 3).sum().backward()
    torch.optim.SGD(head.parameters(), lr=1.0).step()
    assert hidden_norm.bias.any()
    assert not last_norm.bias.any(), "SimCLR's code has no offset there"
    assert not (last_norm.weight == 1).all()


def test_no_norm(x: Tensor):
    head = mlp(5, 7, 3, norm="none")
    assert kinds(head) == ["Linear", "ReLU", "Linear"]
    first, _, last = head
    torch.testing.assert_close(head(x), (x @ first.weight.T + first.bias).relu() @ last.weight.T + last.bias)
    assert first.bias.any()


@pytest.mark.parametrize(
    ("norm", "expected"), [("hidden", ["Linear"]), ("all", ["Linear", "BatchNorm1d"]), ("none", ["Linear"])]
)
def test_one_layer(norm: str, expected: list[str]):
    head = mlp(5, 7, 3, layers=1, norm=norm)
    assert kinds(head) == expected
    assert head[0].weight.shape == (3, 5)
    assert (head[0].bias is not None) == (norm == "none")


def test_weights_start_as_in_orls_code():
    first, _, _, last = mlp(512, 1024, 256)
    assert first.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.01)
    assert last.weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.01)
    assert not first.bias.any()


def test_impossible_heads_are_refused():
    with pytest.raises(ValueError, match="head of 0 layers: at least 1"):
        mlp(5, 7, 3, layers=0)
    with pytest.raises(ValueError, match=r"norm 'batch' .* hidden, all, none"):
        mlp(5, 7, 3, norm="batch")
