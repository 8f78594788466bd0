"""Detection as a step: it trains, stops, goes on, detects and measures; and a detector that was trained finds more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.data import indexing, scenes
from stages.data.catalog import Catalog
from stages.evaluation.protocols import detection
from stages.evaluation.saved import load_outcome
from stages.report import Report
from tests.stages.evaluation.tasks.detection.coloured import coloured_catalog

SMALL: dict[str, Any] = {
    "encoder": {"kind": "random", "backbone": "conv4", "path": None, "seed": 0},
    "architecture": "fpn_2fc", "masks": False, "frozen": False, "metric": "coco", "annotations": None,
    "short_sides": [48], "longest": 64, "test_short_side": 48, "training": "2 steps", "drops": [0.5],
    "warmup": "1 step", "batch_size": 2, "lr": 0.01, "weight_decay": 1e-4, "regions": 4, "proposals": 4,
    "detections": 3, "precise_batches": 1, "seed": 0, "device": "cpu", "workers": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Catalog]:
    """24 photos of coloured squares to train on, and 4 to test on."""
    train, test = (coloured_catalog(tmp_path_factory.mktemp("squares"), photos, seed=photos) for photos in (24, 4))
    return train, test


def run(out: Path, data: tuple[Catalog, Catalog], **changed: Any) -> dict[str, Any]:
    """The values of the outcome and the report's metrics."""
    out.mkdir(exist_ok=True)
    train, test = data
    report = Report()
    detection.run(
        out=out, report=report, train=train.directory, train_root=train.root, test=test.directory, test_root=test.root,
        **SMALL | changed,
    )  # fmt: skip
    values = load_outcome(out, "it").values
    return {name: each["it"].value for name, each in values.items()} | {"metrics": report.metrics}


def losses(out: Path, name: str = "loss") -> list[float]:
    return [json.loads(line)[name] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_step_trains_detects_and_measures(squares: tuple[Catalog, Catalog], tmp_path: Path) -> None:
    values = run(tmp_path, squares, masks=True)

    assert {"box_ap", "box_ap50", "box_ap75", "mask_ap", "ap red", "mask ap blue"} <= set(values)
    assert set(values["metrics"]) == {"box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"}
    assert len(losses(tmp_path)) == 2

    # The detections are there: another measure trains and detects nothing again, and has intervals.
    by_voc = run(tmp_path, squares, masks=True, metric="voc_11_point")
    assert set(by_voc) == {"box_ap", "box_ap50", "box_ap75", "ap red", "ap blue", "metrics"}
    assert load_outcome(tmp_path, "it").values["box_ap"]["it"].resamples is not None
    assert len(losses(tmp_path)) == 2


def test_settings_that_do_not_fit_say_so(squares: tuple[Catalog, Catalog], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="goes with metric 'lvis' alone"):
        run(tmp_path, squares, annotations=tmp_path / "lvis.json")
    with pytest.raises(ValueError, match="goes with metric 'lvis' alone"):
        run(tmp_path, squares, metric="lvis")


@pytest.mark.slow
@pytest.mark.parametrize(
    # The whole loss of an R-CNN rises as its proposals hold more objects, whose boxes are then to be learned.
    ("architecture", "loss"),
    [("fpn_2fc", "loss_objectness"), ("fcos", "loss")],
)
def test_training_lowers_the_loss_and_finds_squares(
    squares: tuple[Catalog, Catalog], tmp_path: Path, architecture: str, loss: str
) -> None:
    settings = {
        "architecture": architecture,
        "training": "120 steps",
        "drops": [0.9],
        "warmup": "10 steps",
        "batch_size": 4,
    }
    trained = run(tmp_path / "trained", squares, **settings, precise_batches=8)
    untrained = run(tmp_path / "untrained", squares, architecture=architecture, training="1 step", lr=1e-6)

    first, *_, last = losses(tmp_path / "trained", loss)
    assert last < 0.7 * first
    assert trained["box_ap50"] > untrained["box_ap50"] + 0.2


@pytest.mark.slow
def test_scenes_are_learned(photos_dir: Path, tmp_path: Path) -> None:
    made = tmp_path / "scenes"
    made.mkdir()
    scenes.run(
        out=made, report=Report(), photos=photos_dir, train_images=48, test_images=16, side=64, seed=0, workers=1
    )
    data = []
    for split in scenes.SPLITS:
        directory = tmp_path / split
        directory.mkdir()
        indexing.run(
            out=directory, report=Report(), format="coco", root=made / split,
            annotations=made / f"instances_{split}.json", split=None, list_file=None, min_side=32, max_rejected=0.0,
            workers=1,
        )  # fmt: skip
        data.append(Catalog(directory, made / split))
    settings = {"masks": True, "training": "60 steps", "drops": [0.9], "warmup": "10 steps", "batch_size": 4}
    run(tmp_path / "trained", (data[0], data[0]), **settings, short_sides=[64], test_short_side=64)

    first, *_, last = losses(tmp_path / "trained")
    assert last < 0.8 * first


@pytest.mark.slow
def test_coco_runs_from_end_to_end(shared_data: Path, tmp_path: Path) -> None:
    data = []
    for split in ("train2017", "val2017"):
        directory = tmp_path / split
        directory.mkdir()
        indexing.run(
            out=directory, report=Report(), format="coco", root=shared_data / "coco" / split,
            annotations=shared_data / "coco" / "annotations" / f"instances_{split}.json", split=None, list_file=None,
            min_side=32, max_rejected=0.0, workers=1,
        )  # fmt: skip
        data.append(Catalog(directory, shared_data / "coco" / split))
    encoder = {"kind": "random", "backbone": "resnet10t", "path": None, "seed": 0}
    settings = {"architecture": "c4", "masks": True, "training": "12 steps", "batch_size": 2, "warmup": "3 steps"}
    values = run(
        tmp_path / "out", (data[0], data[1]), encoder=encoder, **settings, short_sides=[96], longest=160,
        test_short_side=96,
    )  # fmt: skip

    assert {"box_ap", "mask_ap", "ap person", "mask ap person"} <= set(values)
    first, *_, last = losses(tmp_path / "out")
    assert last < first
