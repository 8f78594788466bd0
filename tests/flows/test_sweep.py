"""`orl sweep` on the rehearsal of the demo: real runs that share what they can, one that fails, one that is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.config.files import load_config
from stages.store import Artifact, Store

pytestmark = pytest.mark.flow

ORL = str(Path(sys.executable).with_name("orl"))
# Without inter-RoI pairs there are fewer steps, and a start from stage 1 is what members share.
MEMBERS = """
extends: base.yaml
title: What the losses are worth
members:
  half: {object_pretraining: {init: image_pretraining, orl: {weight_inter: 0, weight_intra: 0.5}}}
  broken: {object_pretraining: {init: image_pretraining, orl.weight_inter: 0}, evaluation.max_images: 1}
  whole: {object_pretraining: {init: image_pretraining, orl.weight_inter: 0}}
  byol: {object_pretraining: {method: byol, crops: {mode: scene_scene}}}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that extends a tiny configuration."""
    folder = tmp_path_factory.mktemp("sweeps")
    small = [
        "image_pretraining.backbone=conv4",
        "image_pretraining.epochs=2 steps",
        "object_pretraining.epochs=2 steps",
    ]
    base = load_config("demo", small, tiny=True).model_dump(mode="json")
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    (folder / "losses.yaml").write_text(MEMBERS)
    return folder / "losses.yaml"


@pytest.fixture(scope="module")
def sweep(prefect_server: None, artifacts: Path, file: Path) -> Iterator[Callable[..., int]]:
    from flows.sweep import run_sweep

    def run(*only: str, seeds: tuple[int, ...] = (0,)) -> int:
        return run_sweep(str(file), [], list(seeds), list(only), tiny=False)

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def first(sweep: Callable[..., int], artifacts: Path) -> tuple[int, dict[str, Any], str]:
    """Exit status, results and table of three members, the second of which fails."""
    status = sweep("half", "broken", "whole")
    folder = artifacts / "sweeps/losses"
    return status, json.loads((folder / "results.json").read_text()), (folder / "table.md").read_text()


def made(artifacts: Path, step: str) -> list[Artifact]:
    return Store(artifacts).artifacts(step)


def test_a_failed_member_is_told_and_does_not_keep_the_others_from_running(
    first: tuple[int, dict[str, Any], str],
) -> None:
    status, results, table = first
    assert status == 1
    assert [run["outcome"] for run in results["runs"]] == ["done", "failed", "done"]
    assert "raise evaluation.max_images" in results["runs"][1]["reason"]
    assert "1 of 3 runs are missing: broken, seed 0 (failed)" in table
    assert "One seed" in table


def test_what_members_share_is_made_once(first: tuple[int, dict[str, Any], str], artifacts: Path) -> None:
    for step in ("scenes", "image_pretraining", "regions"):
        assert len(made(artifacts, step)) == 1, step
    assert len(made(artifacts, "object_pretraining")) == 2, "the failed member trained that of `whole`"
    assert all(artifact.manifest["attempts"] == 1 for artifact in Store(artifacts).artifacts())
    half, whole = (Store(artifacts).latest(f"losses-{member}-seed0") for member in ("half", "whole"))
    assert {name for name in half if half[name].version != whole[name].version} == {"object_pretraining", "evaluation"}


def test_the_table_has_the_members_and_what_they_are_compared_with(
    first: tuple[int, dict[str, Any], str], artifacts: Path
) -> None:
    _, results, table = first
    by_encoder = {(entry["encoder"], entry["figure"]): entry for entry in results["figures"]}
    assert {encoder for encoder, _ in by_encoder} == {"random", "image_pretraining", "half", "whole"}
    evaluation = Store(artifacts).latest("losses-whole-seed0")["evaluation"]
    rows = json.loads(evaluation.file("results.json").read_text())
    trained = {row["figure"]: row["value"] for row in rows if row["encoder"] == "object_pretraining"}
    assert {figure: by_encoder["whole", figure]["mean"] for figure in trained} == trained
    assert all(entry["std"] is None for entry in results["figures"])
    assert table.startswith("# What the losses are worth\n")


def test_a_second_call_makes_only_what_is_new(
    first: tuple[int, dict[str, Any], str], sweep: Callable[..., int], artifacts: Path
) -> None:
    before = {artifact.path: artifact.manifest["end"] for artifact in Store(artifacts).artifacts()}
    assert sweep("byol", seeds=(0, 1)) == 0
    after = {artifact.path: artifact.manifest["end"] for artifact in Store(artifacts).artifacts()}
    assert before.items() <= after.items()
    new = sorted(path.parent.name for path in after.keys() - before.keys())
    assert new == ["evaluation", "evaluation", "object_pretraining", "object_pretraining"]
    results = json.loads((artifacts / "sweeps/losses/results.json").read_text())
    entry = next(entry for entry in results["figures"] if entry["encoder"] == "byol")
    assert (entry["seeds"], len(entry["values"])) == ([0, 1], 2)
    assert entry["std"] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nobody"], "has no member nobody"),
        (["--set", "run.seed=3"], "use --seeds instead"),
        (["--set", "retrieval.neigbors=3"], "member 'half': config"),
        (["--seeds", "1", "1"], "listed twice"),
    ],
)
def test_mistakes_are_told_before_anything_runs(file: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [ORL, "sweep", str(file), *arguments], env={**os.environ, "ORL_ARTIFACTS": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_where_it_was(file: Path, artifacts: Path, tmp_path: Path) -> None:
    long = ["object_pretraining.epochs=150 steps", "object_pretraining.checkpoint_minutes=0.001", "run.device=cpu"]
    command = [ORL, "sweep", str(file), "--only", "byol", *(word for field in long for word in ("--set", field))]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        while not any(artifacts.glob("object_pretraining/*.partial/scratch/checkpoint.pt")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 130, (tmp_path / "log").read_text()
        assert "byol, seed 0 (stopped)" in (artifacts / "sweeps/losses/table.md").read_text()
        again = subprocess.run(command, stdout=log, stderr=log, timeout=240, check=False)
    assert again.returncode == 0, (tmp_path / "log").read_text()
    assert Store(artifacts).latest("losses-byol-seed0")["object_pretraining"].manifest["attempts"] == 2
    results = json.loads((artifacts / "sweeps/losses/results.json").read_text())
    assert {entry["encoder"] for entry in results["figures"]} == {"random", "byol"}
