"""Devices and precisions: what "auto" means, what is refused, and that half precision trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.learning import devices
from stages.learning.devices import autocast, deterministic, make_scaler, resolve_device, resolve_precision

CPU = torch.device("cpu")


def test_auto_takes_the_gpu_where_there_is_one():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_an_error_with_a_remedy():
    with pytest.raises(ValueError, match=r"'cuda' asks for a GPU.*'auto'"):
        resolve_device("cuda")


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_on_a_cpu_asks_for_matrix_units(amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "_has_amx", lambda: amx)
    precision, reason = resolve_precision("auto", CPU)
    assert precision == expected
    assert "AMX" in reason


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_precision_on_a_gpu_is_bf16_where_it_has_units_for_it(
    bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(devices, "_has_bf16", lambda gpu: bf16)
    assert resolve_precision("auto", torch.device("cuda"))[0] == expected


def test_a_pytorch_that_cannot_tell_counts_as_a_cpu_without_matrix_units(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert resolve_precision("auto", CPU)[0] == "fp32"


def test_what_is_asked_for_is_taken_and_the_unknown_refused():
    for precision in ("fp32", "bf16", "fp16"):
        assert resolve_precision(precision, CPU)[0] == precision
    with pytest.raises(ValueError, match=r"'fp8' is not known.*auto, fp32, bf16, fp16"):
        resolve_precision("fp8", CPU)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_computes_in_the_precision_that_is_asked_for(precision: str, dtype: torch.dtype):
    x = torch.randn(2, 2)
    with autocast(precision, CPU):
        assert (x @ x).dtype == dtype


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_small_network_learns_in_every_precision(precision: str):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 1))
    optimizer, scaler = torch.optim.SGD(net.parameters(), lr=0.01), make_scaler(precision, CPU)
    assert scaler.is_enabled() == (precision == "fp16")
    x, y = torch.randn(16, 3, 8, 8), torch.randn(16, 1)
    losses = []
    for _ in range(20):
        with autocast(precision, CPU), deterministic(CPU):
            loss = (net(x).float() - y).square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_without_a_scaler_losses_and_states_stay_as_they_are():
    scaler = make_scaler("bf16", CPU)
    assert scaler.scale(torch.tensor(3.0)) == 3.0
    assert scaler.state_dict() == {}


def test_deterministic_holds_within_its_block_alone():
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(CPU):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
