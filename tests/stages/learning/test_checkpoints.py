"""Checkpoints: whole or not at all, refused where they do not fit; signals noted and handed back."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.learning.checkpoints import CHECKPOINT_FILE, Checkpoint, StopRequest, kept_file, rng_state
from stages.learning.devices import make_scaler
from stages.learning.optimizers import OPTIMIZERS, make_optimizer

CPU = torch.device("cpu")
SETTINGS = {"batch_size": 4, "weights": {"image": 1.0}, "scale": (0.08, 1.0)}


def net(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def optimizer_of(module: nn.Module, name: str = "sgd") -> torch.optim.Optimizer:
    return make_optimizer(name, module, lr=0.1, momentum=0.9, weight_decay=0.0)


def trained(width: int = 3, name: str = "sgd") -> tuple[nn.Module, torch.optim.Optimizer]:
    """A net and its optimizer after one step, so that there are momenta and batch-norm statistics."""
    module = net(width)
    optimizer = optimizer_of(module, name)
    module(torch.randn(4, 2)).square().sum().backward()
    optimizer.step()
    return module, optimizer


def checkpoint(module: nn.Module, optimizer: torch.optim.Optimizer, step: int = 7) -> Checkpoint:
    return Checkpoint(SETTINGS, step, 1.5, module.state_dict(), optimizer.state_dict(), {}, [rng_state(CPU)])


def load(out: Path) -> Checkpoint:
    loaded = Checkpoint.load(out)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_everything_comes_back(name: str, tmp_path: Path):
    module, optimizer = trained(name=name)
    checkpoint(module, optimizer).save(tmp_path)
    expected_random = torch.rand(3)

    loaded, fresh = load(tmp_path), net()
    fresh_optimizer = optimizer_of(fresh, name)
    loaded.restore(SETTINGS, fresh, fresh_optimizer, make_scaler("fp32", CPU))
    loaded.restore_rng(0)

    assert (loaded.step, loaded.seconds) == (7, 1.5)
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[key]), key
    for ours, theirs in zip(optimizer.state.values(), fresh_optimizer.state.values(), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert torch.equal(torch.rand(3), expected_random)


def test_the_scale_of_fp16_comes_back(tmp_path: Path):
    module, optimizer = trained()
    scaler = make_scaler("fp16", CPU)
    scaler.scale(torch.ones((), requires_grad=True))
    scaler.update(128.0)
    state = module.state_dict(), optimizer.state_dict(), scaler.state_dict()
    Checkpoint(SETTINGS, 7, 1.5, *state, [rng_state(CPU)]).save(tmp_path)
    fresh = make_scaler("fp16", CPU)
    load(tmp_path).restore(SETTINGS, module, optimizer, fresh)
    assert fresh.get_scale() == 128.0


def test_each_process_gets_its_own_generator_back_and_a_new_one_keeps_its_own(tmp_path: Path):
    states, drawn = [], []
    for seed in range(2):
        torch.manual_seed(seed)
        states.append(rng_state(CPU))
        drawn.append(torch.rand(3))
    module, optimizer = trained()
    Checkpoint(SETTINGS, 7, 1.5, module.state_dict(), optimizer.state_dict(), {}, states).save(tmp_path)
    loaded = load(tmp_path)
    for rank in (1, 0):
        loaded.restore_rng(rank)
        assert torch.equal(torch.rand(3), drawn[rank])
    before = torch.get_rng_state()
    loaded.restore_rng(2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_generator_of_a_gpu_comes_back(tmp_path: Path):
    gpu = torch.device("cuda", torch.cuda.device_count() - 1)
    module, optimizer = trained()
    state = module.state_dict(), optimizer.state_dict(), {}, [rng_state(gpu)]
    Checkpoint(SETTINGS, 7, 1.5, *state).save(tmp_path)
    expected = torch.rand(3, device=gpu)
    load(tmp_path).restore_rng(0)
    assert torch.equal(torch.rand(3, device=gpu), expected)


def test_none_where_there_is_none(tmp_path: Path):
    assert Checkpoint.load(tmp_path) is None


def test_a_kept_checkpoint_outlives_later_ones_and_takes_no_second_space(tmp_path: Path):
    module, optimizer = trained()
    checkpoint(module, optimizer, step=6).save(tmp_path, keep=True)
    assert (tmp_path / kept_file(6)).samefile(tmp_path / CHECKPOINT_FILE)
    checkpoint(module, optimizer, step=7).save(tmp_path)
    assert load(tmp_path).step == 7
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == [
        "checkpoint-000000006.pt", "checkpoint.pt",
    ]  # fmt: skip

    os.replace(tmp_path / kept_file(6), tmp_path / CHECKPOINT_FILE)
    assert load(tmp_path).step == 6


def test_a_repeated_step_replaces_what_was_kept_of_it(tmp_path: Path):
    checkpoint(*trained(), step=6).save(tmp_path, keep=True)
    module, optimizer = trained()
    for _ in range(2):
        checkpoint(module, optimizer, step=6).save(tmp_path, keep=True)
    kept = torch.load(tmp_path / kept_file(6), weights_only=True)
    assert torch.equal(kept["method"]["0.weight"], module.state_dict()["0.weight"])
    assert len(list((tmp_path / "scratch").iterdir())) == 2


def test_a_crash_between_keeping_and_saving_harms_no_kept_checkpoint(tmp_path: Path):
    checkpoint(*trained(), step=6).save(tmp_path, keep=True)
    os.rename(tmp_path / CHECKPOINT_FILE, tmp_path / CHECKPOINT_FILE.with_suffix(".tmp"))  # what it leaves
    checkpoint(*trained(), step=5).save(tmp_path)
    assert torch.load(tmp_path / kept_file(6), weights_only=True)["step"] == 6


@pytest.mark.parametrize("keep", [False, True])
def test_where_there_are_no_hard_links_a_copy_is_kept(keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def link(source: Path, name: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")  # as on FAT and some network file systems

    monkeypatch.setattr(os, "link", link)
    checkpoint(*trained(), step=6).save(tmp_path, keep=keep)
    assert load(tmp_path).step == 6
    assert (tmp_path / kept_file(6)).exists() == keep


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Writing on fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("place", ["in a tensor", "at the end"])
def test_a_full_disk_leaves_the_former_checkpoint_and_no_draft(place: str, keep: bool, tmp_path: Path):
    checkpoint(*trained(), step=7).save(tmp_path)
    large = checkpoint(nn.Linear(1, 100_000, bias=False), optimizer_of(net()), step=8)
    large.save(tmp_path / "elsewhere")
    size = (tmp_path / "elsewhere" / CHECKPOINT_FILE).stat().st_size
    with (
        no_file_larger_than(size // 2 if place == "in a tensor" else size - 100),
        pytest.raises(OSError, match=r"File too large: '.*checkpoint\.pt'") as raised,
    ):
        large.save(tmp_path, keep=keep)
    assert raised.value.errno == errno.EFBIG
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["checkpoint.pt"]
    assert load(tmp_path).step == 7

    large.save(tmp_path, keep=keep)
    assert load(tmp_path).step == 8


_SAVE_FOREVER = """
import sys
import torch
from pathlib import Path
from stages.learning.checkpoints import Checkpoint
weight = torch.zeros(500_000)
for step in range(1, 1_000_000):
    Checkpoint({}, step, 0.0, {"weight": weight.fill_(step)}, {}, {}, []).save(Path(sys.argv[1]), keep=step % 3 == 0)
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path):
    for delay in (0.0, 0.03):
        with subprocess.Popen([sys.executable, "-c", _SAVE_FOREVER, tmp_path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            saved = [int(process.stdout.readline()) for _ in range(3)]
            time.sleep(delay)
            process.kill()
            saved += [int(line) for line in process.stdout.read().split()]
        loaded = load(tmp_path)
        assert loaded.step in (saved[-1], saved[-1] + 1)
        assert torch.equal(loaded.method["weight"], torch.full((500_000,), float(loaded.step)))
        kept = torch.load(tmp_path / kept_file(3), weights_only=True)
        assert kept["method"]["weight"].unique().tolist() == [3.0]


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
    loaded = load(tmp_path)
    other = {"batch_size": 8, "weights": {"image": 1.0}, "scale": (0.08, 1.0), "tau": 0.9}
    with pytest.raises(ValueError, match=r"batch_size is 8 here and 4 in.*tau is 0.9 here and nothing in"):
        loaded.restore(other, module, optimizer, make_scaler("fp32", CPU))


def test_another_network_is_refused_by_key_and_shape_and_left_untouched(tmp_path: Path):
    checkpoint(*trained(3)).save(tmp_path)
    loaded = load(tmp_path)
    module, optimizer = trained(5)
    before = module[0].weight.detach().clone()
    with pytest.raises(ValueError, match=r"tensor 0.weight is \(5, 2\) here and \(3, 2\) in the checkpoint"):
        loaded.restore(SETTINGS, module, optimizer, make_scaler("fp32", CPU))
    assert torch.equal(module[0].weight, before)


@pytest.mark.parametrize("number", StopRequest.SIGNALS)
def test_a_signal_is_noted_and_the_former_handler_comes_back(number: signal.Signals):
    former = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
    assert signal.getsignal(number) is former


def test_a_signal_that_comes_soon_is_waited_for():
    with StopRequest() as stop:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        start = time.monotonic()
        assert stop.soon(20)
        assert time.monotonic() - start < 10
        timer.join()
        assert stop.soon(0), "and once it came, it stays"


def test_without_a_signal_waiting_ends():
    with StopRequest() as stop:
        start = time.monotonic()
        assert not stop.soon(0.1)
        assert 0.1 <= time.monotonic() - start < 2


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
