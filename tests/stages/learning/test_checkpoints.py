"""Checkpoints: whole or not at all, refused where they do not fit; signals noted and handed back."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.learning.checkpoints import CHECKPOINT_FILE, Checkpoint, StopRequest
from stages.learning.optimizers import sgd

SETTINGS = {"batch_size": 4, "weights": {"image": 1.0}, "scale": (0.08, 1.0)}


def net(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def trained(width: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A net and its optimizer after one step, so that there are momenta and batch-norm statistics."""
    module = net(width)
    optimizer = sgd(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
    module(torch.randn(4, 2)).square().sum().backward()
    optimizer.step()
    return module, optimizer


def checkpoint(module: nn.Module, optimizer: torch.optim.Optimizer, step: int = 7) -> Checkpoint:
    return Checkpoint(SETTINGS, step, 1.5, module.state_dict(), optimizer.state_dict(), torch.get_rng_state())


def test_everything_comes_back(tmp_path: Path):
    module, optimizer = trained()
    checkpoint(module, optimizer).save(tmp_path)
    expected_random = torch.rand(3)

    loaded = Checkpoint.load(tmp_path)
    assert loaded is not None
    fresh = net()
    fresh_optimizer = sgd(fresh.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
    loaded.restore(SETTINGS, fresh, fresh_optimizer)
    loaded.restore_rng()

    assert (loaded.step, loaded.seconds) == (7, 1.5)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name]), name
    for ours, theirs in zip(optimizer.state.values(), fresh_optimizer.state.values(), strict=True):
        assert torch.equal(ours["momentum_buffer"], theirs["momentum_buffer"])
    assert torch.equal(torch.rand(3), expected_random)


def test_none_where_there_is_none(tmp_path: Path):
    assert Checkpoint.load(tmp_path) is None


def test_a_crash_while_saving_leaves_the_former_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module, optimizer = trained()
    checkpoint(module, optimizer, step=7).save(tmp_path)
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(OSError("no power")))
    with pytest.raises(OSError, match="no power"):
        checkpoint(module, optimizer, step=8).save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded.step == 7


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "other"])
def test_a_damaged_file_is_an_error_with_a_remedy(damage: str, tmp_path: Path):
    module, optimizer = trained()
    checkpoint(module, optimizer).save(tmp_path)
    path = tmp_path / CHECKPOINT_FILE
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "bit":
        weight = module.state_dict()["0.weight"].numpy().tobytes()
        place = data.index(weight)
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match=r"damaged or not a checkpoint.*Delete the directory"):
        Checkpoint.load(tmp_path)


def test_other_settings_are_refused_by_name(tmp_path: Path):
    module, optimizer = trained()
    checkpoint(module, optimizer).save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert loaded is not None
    other = {"batch_size": 8, "weights": {"image": 1.0}, "scale": (0.08, 1.0), "tau": 0.9}
    with pytest.raises(ValueError, match=r"batch_size is 8 here and 4 in.*tau is 0.9 here and nothing in"):
        loaded.restore(other, module, optimizer)


def test_another_network_is_refused_by_key_and_shape_and_left_untouched(tmp_path: Path):
    checkpoint(*trained(3)).save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert loaded is not None
    module, optimizer = trained(5)
    before = module[0].weight.detach().clone()
    with pytest.raises(ValueError, match=r"tensor 0.weight is \(5, 2\) here and \(3, 2\) in the checkpoint"):
        loaded.restore(SETTINGS, module, optimizer)
    assert torch.equal(module[0].weight, before)


@pytest.mark.parametrize("number", StopRequest.SIGNALS)
def test_a_signal_is_noted_and_the_former_handler_comes_back(number: signal.Signals):
    former = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
    assert signal.getsignal(number) is former


def test_other_threads_leave_signals_alone():
    former = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, former)]
