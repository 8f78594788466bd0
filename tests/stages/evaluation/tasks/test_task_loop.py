"""The loop of the tasks: it learns, stops and goes on exactly, and says what is wrong."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from process_pair import ProcessPair
from torch import Tensor

from stages.data.loading import EpochStream
from stages.evaluation.tasks.optimizers import sgd
from stages.learning.checkpoints import Checkpoint
from stages.learning.distributed import rank
from stages.report import Report
from tests.stages.evaluation.tasks.toy import Classifier, Points, records, run
from tests.stages.learning.small_training import CLOCK, At


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def stop_at(step: int, number: signal.Signals = signal.SIGTERM) -> At:
    return At(step, lambda: os.kill(os.getpid(), number))


def test_learns_and_logs_each_step(tmp_path: Path):
    start = Classifier().state_dict()
    weights, last = run(tmp_path, steps=40, optimizer=partial(sgd, lr=0.02), schedule=lambda step: 1.0)
    lines = records(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert sum(line["loss"] for line in lines[-5:]) < 0.7 * sum(line["loss"] for line in lines[:5])
    assert lines[-1] == last
    assert {"epoch", "accuracy", "lr", "gradient_norm"} <= last.keys()
    assert lines[5]["epoch"] == 6 * 4 / 12
    assert not torch.equal(start["head.weight"], weights["head.weight"])
    assert torch.equal(start["frozen.running_mean"], weights["frozen.running_mean"]), "it stayed in eval mode"


def test_rates_follow_the_schedule_group_by_group(tmp_path: Path):
    model, made = Classifier(), []

    def two_rates(network: Classifier) -> torch.optim.SGD:
        groups = [{"params": network.norm.parameters()}, {"params": network.head.parameters(), "lr": 1.0}]
        made.append(sgd(network, lr=0.01, groups=lambda _: groups))
        return made[0]

    run(tmp_path, model, optimizer=two_rates, schedule=lambda step: 0.5**step, steps=4)
    assert [line["lr"] for line in records(tmp_path)] == pytest.approx([0.01 * 0.5**step for step in range(4)])
    assert [group["lr"] for group in made[0].param_groups] == pytest.approx([0.01 / 8, 1 / 8])


def test_a_step_is_that_of_plain_sgd(tmp_path: Path):
    """Three steps by hand, with torch's own optimizer and Nesterov's momentum."""

    class Plain(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.dropout.p = 0.0

    settings: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
    ours, _ = run(tmp_path, Plain(), steps=3, optimizer=partial(sgd, **settings), schedule=lambda step: 1.0)
    model, data = Plain().train(), Points()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], **settings)
    for batch in EpochStream(12, seed=0, batch_size=4, first_step=0, last_step=3):
        loss, _ = model(data.collate([data[index, epoch] for epoch, index in batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, msg=name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_rest_gives_the_same_weights(number: signal.Signals, tmp_path: Path):
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "parts", report=stop_at(3, number))
    assert stopped.value.code == 75
    assert [line["step"] for line in records(tmp_path / "parts")] == [1, 2, 3]
    parts, _ = run(tmp_path / "parts")
    assert_same(whole, parts)
    by_step = [[{k: v for k, v in line.items() if k not in CLOCK} for line in records(tmp_path / name)]
               for name in ("whole", "parts")]  # fmt: skip
    assert by_step[0] == by_step[1]


def test_a_crash_goes_back_to_the_last_checkpoint(tmp_path: Path):
    def crash() -> None:
        raise MemoryError("out of memory")

    whole, _ = run(tmp_path / "whole")
    with pytest.raises(MemoryError):
        run(tmp_path / "parts", report=At(5, crash), checkpoint_minutes=1e-9)
    checkpoint = Checkpoint.load(tmp_path / "parts")
    assert checkpoint is not None
    assert checkpoint.step == 4
    parts, _ = run(tmp_path / "parts")
    assert_same(whole, parts)


def test_a_finished_training_is_only_loaded(tmp_path: Path):
    whole, last = run(tmp_path)
    model = Classifier()
    again, again_last = run(tmp_path, model)
    assert model.steps == 0
    assert again_last == last
    assert_same(whole, again)


def test_workers_and_precision(tmp_path: Path):
    here, _ = run(tmp_path / "here", steps=2)
    there, _ = run(tmp_path / "there", steps=2, workers=1)
    assert_same(here, there)
    _, last = run(tmp_path / "half", steps=2, precision="bf16")
    assert last["loss"] == pytest.approx(records(tmp_path / "here")[-1]["loss"], rel=0.05)


def test_clipped_gradients_move_the_weights_less(tmp_path: Path):
    start = Classifier().state_dict()["head.weight"]
    moves = []
    for clip_norm in (None, 0.01):
        weights, last = run(tmp_path / str(clip_norm), steps=1, clip_norm=clip_norm, optimizer=partial(sgd, lr=0.1))
        moves.append((weights["head.weight"] - start).norm().item())
        assert last["gradient_norm"] > 0.01, "the log shows the norm before"
    assert moves[1] < 0.001 + 1e-6 < moves[0]


def test_a_loss_that_is_not_finite_stops_it_and_names_the_samples(tmp_path: Path):
    class Failing(Classifier):
        def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
            loss, figures = super().forward(batch)
            return loss / (0.0 if self.steps == 2 else 1.0), figures

    with pytest.raises(FloatingPointError, match=r"step 2 has loss inf.*lower learning rate.*samples: \d+, \d+"):
        run(tmp_path, Failing())
    assert Checkpoint.load(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settings": {"task": "another"}}, "setting task is another here and toy in the checkpoint"),
        ({"batch_size": 6}, "setting batch_size is 6 here and 4"),
        ({"steps": 0}, "a training of 0 steps"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], words: str, tmp_path: Path):
    run(tmp_path, steps=1, checkpoint_minutes=1000.0)
    with pytest.raises(ValueError, match=words):
        run(tmp_path, **({"steps": 1} | changes))


def work(out: Path, stop_at_step: int | None, changes: dict[str, Any]) -> Any:
    """In each of two processes; the second asks to stop."""

    class Stopping(Report):
        def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
            if done == stop_at_step and rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    model = Classifier()
    model.dropout.p = 0.0  # whose draws differ from process to process
    try:
        return run(out, model, Stopping(), **changes)[0]
    except SystemExit as stopped:
        return stopped.code


def test_two_processes_learn_what_one_learns_and_stop_together(two_processes: ProcessPair, tmp_path: Path):
    one = work(tmp_path / "one", None, {})
    first, second = two_processes(work, tmp_path / "two", None, {})
    for name, tensor in one.items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
        assert torch.equal(first[name], second[name]), name
    assert two_processes(work, tmp_path / "parts", 3, {}) == [75, 75]
    assert_same(first, two_processes(work, tmp_path / "parts", None, {})[0])
