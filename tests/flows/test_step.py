"""`orl step`, alone and under torchrun; and how a flow starts a training of several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows.prepare import prepare
from flows.step import _request, run_step_here
from stages.store import Store
from tests.flows.test_children import gone_within

ORL = str(Path(sys.executable).with_name("orl"))
TWO_PROCESSES = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
CPU = ["run.device=cpu", "run.workers=1"]
LONG = [*CPU, "image_pretraining.epochs=2000 steps"]


@pytest.fixture(scope="module", autouse=True)
def catalog(artifacts: Path) -> None:
    """What a training needs, each made by a call of its own."""
    for step in ("demo_photos", "scenes", "catalog"):
        run_step_here("demo", CPU, True, step)


def environment(artifacts: Path) -> dict[str, str]:
    return {**os.environ, "ORL_ARTIFACTS": str(artifacts), "OMP_NUM_THREADS": "1"}


def processes_of(request: Path) -> list[int]:
    lines = {int(path.parent.name): _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
    return [number for number, line in lines.items() if str(request) in line]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""


def metrics(partial: Path) -> list[dict[str, Any]]:
    lines = (partial / "metrics.jsonl").read_text().splitlines() if (partial / "metrics.jsonl").exists() else []
    return [json.loads(line) for line in lines]


def wait_for_steps(partial: Path, steps: int) -> None:
    deadline = time.monotonic() + 90
    while not any(record["step"] >= steps for record in metrics(partial)):
        assert time.monotonic() < deadline, "the training does not get on"
        time.sleep(0.2)


def test_a_step_whose_inputs_are_missing_says_which() -> None:
    with pytest.raises(ValueError, match=r"retrieval needs image_pretraining.*orl run demo --until image_pretraining"):
        run_step_here("demo", CPU, True, "retrieval")
    with pytest.raises(ValueError, match="'retrival' is no step of this config"):
        run_step_here("demo", CPU, True, "retrival")


def test_torchrun_trains_one_artifact_in_two_processes(artifacts: Path) -> None:
    words = [word for override in CPU for word in ("--set", override)]
    command = [*TWO_PROCESSES, ORL, "step", "demo", "image_pretraining", "--tiny", *words]
    done = subprocess.run(command, env=environment(artifacts), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("made") == 1, "one process speaks"

    _, _, plan = prepare("demo", CPU, True)
    artifact = Store(artifacts).find(plan.keys["image_pretraining"])
    assert artifact is not None
    assert artifact.manifest["metrics"]["processes"] == 2

    run_step_here("demo", CPU, True, "image_pretraining")  # it is up to date


def test_a_training_of_two_processes_that_is_told_to_stop_goes_on_where_it_was(artifacts: Path) -> None:
    """As the flow starts it: `stages.launch` gets the signal, and no process is left."""
    request = artifacts / "request.json"
    request.write_text(json.dumps(_request("demo", LONG, True, "image_pretraining")))
    _, _, plan = prepare("demo", LONG, True)
    version = plan.keys["image_pretraining"].version
    partial = artifacts / "image_pretraining" / f"{version}.partial"
    command = [sys.executable, "-m", "stages.launch", "2", str(request)]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment(artifacts), stdout=subprocess.DEVNULL, text=True)

    process = start()
    wait_for_steps(partial, 4)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert (partial / "scratch" / "checkpoint.pt").is_file()
    before = metrics(partial)[-1]["step"]

    process = start()
    wait_for_steps(partial, before + 4)
    trainers = processes_of(request)
    assert len(trainers) == 3, "the launcher and two that train"
    process.kill()  # the others notice
    process.wait()
    assert all(gone_within(other, 20) for other in trainers)
    steps = [record["step"] for record in metrics(partial)]
    assert steps == sorted(set(steps)), "no step is there twice"
