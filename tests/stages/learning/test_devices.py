"""Devices and precisions: what "auto" means, and what is refused."""

from __future__ import annotations

import pytest
import torch

from stages.learning import devices
from stages.learning.devices import autocast, deterministic, resolve_device, resolve_precision

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


def test_auto_precision_on_a_gpu_is_bf16():
    assert resolve_precision("auto", torch.device("cuda"))[0] == "bf16"


def test_a_pytorch_that_cannot_tell_counts_as_a_cpu_without_matrix_units(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert resolve_precision("auto", CPU)[0] == "fp32"


def test_what_is_asked_for_is_taken_and_the_unknown_refused():
    assert resolve_precision("bf16", CPU)[0] == "bf16"
    with pytest.raises(ValueError, match=r"'fp16' is not known.*auto, fp32, bf16"):
        resolve_precision("fp16", CPU)


def test_autocast_computes_in_bf16_only_when_asked():
    x = torch.randn(2, 2)
    with autocast("bf16", CPU):
        assert (x @ x).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert (x @ x).dtype == torch.float32


def test_deterministic_holds_within_its_block_alone():
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(CPU):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
