"""The step as it is run: its files, and that a process which is killed costs only the steps since its checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import image_pretraining
from stages.config import ImagePretraining
from stages.data.catalog import Catalog
from stages.learning.encoder import load_encoder
from stages.report import Report

# A process that trains as the step does, and after step 5 waits to be killed or told to go on.
CHILD = """
import json, sys, time
from pathlib import Path
from stages import image_pretraining
from stages.report import Report

class Waiter(Report):
    def progress(self, done, total, unit="images", **figures):
        if done == 5:
            print("ready", flush=True)
            while not (arguments["out"] / "go").exists():
                time.sleep(0.02)

arguments = json.loads(sys.argv[1])
for name in ("out", "catalog", "root"):
    arguments[name] = Path(arguments[name])
image_pretraining.run(report=Waiter(), **arguments)
"""


def arguments(catalog: Catalog, out: Path, **changes: Any) -> dict[str, Any]:
    settings = {
        "method": "byol", "backbone": "test_resnet", "projector_hidden": 16, "projector_out": 8,
        "predictor_hidden": 16, "size": 32, "min_crop": 0.2, "epochs": "4 epochs", "warmup": "1 epoch",
        "batch_size": 4, "base_lr": 3.2, "momentum": 0.9, "weight_decay": 1e-4, "tau": 0.9, "precision": "fp32",
        "log_every": 1, "checkpoint_minutes": 1e-9, "scaled_decode": False, "seed": 0, "device": "cpu", "workers": 1,
    }  # fmt: skip
    return settings | {"out": out, "catalog": catalog.directory, "root": catalog.root} | changes


def steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(photo_catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight steps, four epochs of eight photos, that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    image_pretraining.run(report=Report(), **arguments(photo_catalog, out))
    return out


def test_writes_its_files(whole: Path):
    assert {path.name for path in whole.iterdir()} == {
        "encoder.safetensors", "metrics.jsonl", "views.png", "tensorboard", "scratch"
    }  # fmt: skip
    assert steps(whole) == list(range(1, 9))


@pytest.mark.parametrize("way", ["killed", "stopped", "stopped_as_a_group"])
def test_a_process_that_ends_early_is_resumed_to_the_same_weights(
    way: str, whole: Path, photo_catalog: Catalog, tmp_path: Path
):
    given = arguments(photo_catalog, tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(given, default=str)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if way == "killed":
        process.kill()
    elif way == "stopped":
        process.terminate()
    else:
        os.killpg(process.pid, signal.SIGTERM)
    (tmp_path / "go").touch()
    assert process.wait(timeout=60) == (-signal.SIGKILL if way == "killed" else 75)
    process.stdout.close()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert not (tmp_path / "encoder.safetensors").exists()

    image_pretraining.run(report=Report(), **given)

    assert steps(tmp_path) == list(range(1, 9))
    assert (tmp_path / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()


def test_workers_do_not_change_the_result(whole: Path, photo_catalog: Catalog, tmp_path: Path):
    image_pretraining.run(report=Report(), **arguments(photo_catalog, tmp_path, workers=0))
    assert (tmp_path / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()


def test_the_encoder_can_be_loaded_and_used(whole: Path):
    encoder = load_encoder(whole)
    assert encoder(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 8)


def test_an_unknown_method_is_refused_with_those_that_exist(photo_catalog: Catalog, tmp_path: Path):
    with pytest.raises(ValueError, match=r"no method 'simsiam'. There are: byol"):
        image_pretraining.run(report=Report(), **arguments(photo_catalog, tmp_path, method="simsiam"))


def test_progress_tells_the_loss(photo_catalog: Catalog, tmp_path: Path):
    seen = []

    class Listener(Report):
        def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
            seen.append((done, total, unit, set(figures)))

    image_pretraining.run(report=Listener(), **arguments(photo_catalog, tmp_path, epochs="2 steps", workers=0))
    assert seen == [(1, 2, "steps", {"loss", "std"}), (2, 2, "steps", {"loss", "std"})]


def test_takes_every_setting_of_its_section(photo_catalog: Catalog, tmp_path: Path):
    assert set(ImagePretraining().all_fields()) <= set(arguments(photo_catalog, tmp_path))
