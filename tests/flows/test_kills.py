"""Nothing is lost, doubled or corrupted when runs are killed at random moments or race each other."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.store import Store
from tests.flows.test_children import gone_within

pytestmark = [pytest.mark.flow, pytest.mark.slow]

ORL = str(Path(sys.executable).with_name("orl"))
KILLS = 10
# Long enough that kills hit trainings, with a checkpoint nearly every step.
LONGER = [
    "image_pretraining.epochs=40 steps",
    "object_pretraining.epochs=30 steps",
    "image_pretraining.checkpoint_minutes=0.01",
    "object_pretraining.checkpoint_minutes=0.01",
]


def start(artifacts: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "ORL_ARTIFACTS": str(artifacts)}
    overrides = [word for field in LONGER for word in ("--set", field)]
    with (artifacts.parent / f"{artifacts.name}.log").open("ab") as log:
        return subprocess.Popen([ORL, "run", "demo", "--tiny", *overrides], env=environment, stdout=log, stderr=log)


def finish(artifacts: Path) -> None:
    assert start(artifacts).wait(600) == 0, (artifacts.parent / f"{artifacts.name}.log").read_text()[-3000:]


def results(artifacts: Path) -> dict[str, Any]:
    """What must not depend on how often a run was interrupted: versions, and the contents of every table and weight."""
    found: dict[str, Any] = {}
    for name, artifact in Store(artifacts).latest("demo-tiny").items():
        files = {file["name"]: file["sha256"] for file in artifact.manifest["files"]}
        # Times stand in these two; everything else is a function of the settings.
        kept = {
            file: digest for file, digest in files.items() if "metrics.jsonl" not in file and "tensorboard" not in file
        }
        found[name] = (artifact.version, kept)
    return found


def descendants(process: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found, open_ends = set(), [process]
    while open_ends:
        for child in children.get(open_ends.pop(), []):
            found.add(child)
            open_ends.append(child)
    return found


def command_line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "(ended)"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifacts = tmp_path_factory.mktemp("undisturbed") / "artifacts"
    artifacts.mkdir()
    finish(artifacts)
    return artifacts


def test_ten_kills_at_random_moments_change_nothing(undisturbed: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    moments = random.Random(0)
    made: dict[str, str] = {}
    resumed = 0
    for _ in range(KILLS):
        run = start(artifacts)
        time.sleep(moments.uniform(7, 24))
        family = descendants(run.pid)
        commands = {process: command_line(process) for process in family}
        run.send_signal(signal.SIGKILL)
        run.wait(10)
        for process in family:
            assert gone_within(process, 75), f"outlived the run: {process} {commands[process]}"
        for name, artifact in Store(artifacts).latest("demo-tiny").items():
            finished = artifact.manifest["end"]
            assert made.setdefault(name, finished) == finished, f"{name} was made twice"
        resumed += any(artifacts.glob("*/*.partial/scratch/checkpoint.pt"))
    assert resumed, "no kill hit a training: the test would show nothing"
    finish(artifacts)
    assert results(artifacts) == results(undisturbed)
    for training in ("image_pretraining", "object_pretraining"):
        lines = (artifacts / "latest/demo-tiny" / training / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert steps == sorted(set(steps)), "a step was logged twice"


def test_two_runs_at_once_do_the_work_once(undisturbed: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    runs = [start(artifacts), start(artifacts)]
    log = artifacts.parent / "artifacts.log"
    assert [run.wait(900) for run in runs] == [0, 0], log.read_text()[-3000:]
    assert results(artifacts) == results(undisturbed)
    assert not list(artifacts.glob("*/*.partial"))
    for artifact in Store(artifacts).artifacts():
        assert artifact.manifest["attempts"] == 1


def test_the_tables_hold_together(undisturbed: Path) -> None:
    """Every row refers to something that is there."""
    latest = Store(undisturbed).latest("demo-tiny")
    images = len(pd.read_parquet(latest["catalog"].file("images.parquet")))
    boxes = pd.read_parquet(latest["regions"].file("boxes.parquet"))
    features = np.load(latest["roi_features"].file("features.npy"), allow_pickle=False)
    neighbors = pd.read_parquet(latest["retrieval"].file("neighbors.parquet"))
    pairs = pd.read_parquet(latest["correspondence"].file("pairs.parquet"))
    assert len(features) == len(boxes)
    assert set(boxes["image"]) == set(range(images))
    assert (neighbors["image"] != neighbors["neighbor"]).all()
    listed = set(zip(neighbors["image"], neighbors["neighbor"], strict=True))
    assert set(zip(pairs["image"], pairs["neighbor"], strict=True)) <= listed
    known = set(zip(boxes["image"], boxes["roi"], strict=True))
    assert set(zip(pairs["image"], pairs["roi"], strict=True)) <= known
    assert set(zip(pairs["neighbor"], pairs["neighbor_roi"], strict=True)) <= known
