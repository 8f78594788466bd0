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
from stages.data.catalog import Catalog
from stages.learning.encoder import load_encoder
from stages.report import Report
from tests.stages.learning.settings import ENCODER, LOOP, OBJECTIVES, PLACE

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


def arguments(catalog: Catalog, out: Path, method: str = "byol", workers: int = 1, **training: Any) -> dict[str, Any]:
    changes = {"epochs": "4 epochs", "warmup": "1 epoch", "checkpoint_minutes": 1e-9} | training
    return {
        "out": out, "catalog": catalog.directory, "root": catalog.root, "method": method, "encoder": ENCODER,
        "views": {"size": 32, "min_crop": 0.2, "photometry": "byol"}, "objective": OBJECTIVES.get(method, {}),
        "training": LOOP | changes, **PLACE, "workers": workers,
    }  # fmt: skip


SHOWN = {"loss", "std", "images_per_second", "data_share"}


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


@pytest.fixture(scope="module")
def undisturbed(photo_catalog: Catalog, tmp_path_factory: pytest.TempPathFactory, whole: Path) -> dict[str, Path]:
    """The same of every method."""
    made = {"byol": whole}
    for method in ("simclr", "moco", "densecl"):
        made[method] = tmp_path_factory.mktemp(method)
        image_pretraining.run(report=Report(), **arguments(photo_catalog, made[method], method, workers=0))
    return made


@pytest.mark.parametrize(
    ("method", "way"),
    [("byol", "killed"), ("byol", "stopped"), ("byol", "stopped_as_a_group"),
     ("simclr", "killed"), ("moco", "killed"), ("densecl", "killed")],
)  # fmt: skip
def test_a_process_that_ends_in_mid_epoch_is_resumed_to_the_same_weights(
    method: str, way: str, undisturbed: dict[str, Path], photo_catalog: Catalog, tmp_path: Path
):
    whole = undisturbed[method]
    given = arguments(photo_catalog, tmp_path, method)
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


def test_byol_may_have_small_views(photo_catalog: Catalog, tmp_path: Path):
    given = arguments(photo_catalog, tmp_path, epochs="2 steps", workers=0)
    given["views"] |= {"small_views": 2, "small_size": 24, "small_scale": [0.05, 0.14]}
    given["objective"] = given["objective"] | {"small_views": 2}
    image_pretraining.run(report=Report(), **given)
    assert steps(tmp_path) == [1, 2]


def test_an_unknown_method_is_refused_with_those_that_exist(photo_catalog: Catalog, tmp_path: Path):
    with pytest.raises(ValueError, match=r"no method 'simsiam'. There are: byol"):
        image_pretraining.run(report=Report(), **arguments(photo_catalog, tmp_path, "simsiam"))


def test_progress_tells_the_loss(photo_catalog: Catalog, tmp_path: Path):
    seen = []

    class Listener(Report):
        def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
            seen.append((done, total, unit, set(figures)))

    image_pretraining.run(report=Listener(), **arguments(photo_catalog, tmp_path, epochs="2 steps", workers=0))
    assert seen == [(1, 2, "steps", SHOWN), (2, 2, "steps", SHOWN)]
