"""Semantic segmentation from the photos to the outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted import index, make_maps, paint

from stages.data import indexing, scenes
from stages.evaluation.protocols import segmentation
from stages.evaluation.saved import THIS, load_outcome
from stages.evaluation.tasks.dense import class_maps
from stages.evaluation.tasks.dense.examples import EXAMPLES_FILE
from stages.report import Report
from stages.shards import LocalEngine

CONV4 = {"kind": "random", "backbone": "conv4", "path": None, "seed": 0}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for seed, (split, photos) in enumerate((("train", 16), ("test", 6))):
        folder = tmp_path_factory.mktemp(split)
        paint(folder, photos, seed)
        made |= {split: index(folder), f"{split}_root": folder / "images", f"{split}_maps": make_maps(folder)}
    return made


def run(out: Path, splits: dict[str, Any], **changes: Any) -> Report:
    settings: dict[str, Any] = {
        "encoder": CONV4, "output_stride": 32, "crop": 33, "scales": (0.5, 2.0), "short_side": None,
        "inference": "whole", "training": "40 steps", "batch_size": 4, "lr": 0.05, "weight_decay": 1e-4, "seed": 0,
        "device": "cpu", "workers": 0, "precision": "fp32",
    }  # fmt: skip
    out.mkdir(exist_ok=True)
    report = Report()
    segmentation.run(out=out, report=report, **splits | settings | changes)
    return report


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_colours_are_learned(tmp_path, splits):
    report = run(tmp_path / "trained", splits)
    run(tmp_path / "untrained", splits, training="1 steps", lr=1e-9)
    trained, untrained = (load_outcome(tmp_path / name, THIS).values["miou"][THIS] for name in ("trained", "untrained"))
    assert trained.value > 0.75
    assert untrained.value < 0.4
    first, *_, last = losses(tmp_path / "trained")
    assert last < 0.5 * first
    assert report.metrics["segmentation_miou"] == trained.value

    outcome = load_outcome(tmp_path / "trained", THIS)
    assert (outcome.protocol, outcome.data) == ("segmentation", "catalog")
    assert {"miou", "pixel_accuracy", "class_accuracy", "iou/background", "iou/aeroplane"} <= set(outcome.values)
    assert outcome.settings["crop"] == 33
    assert "bus" in outcome.notes[0]
    low, high = trained.interval
    assert low < trained.value < high
    counts = np.load(tmp_path / "trained" / segmentation.COUNTS_FILE)
    assert counts.shape == (6, 3, 21)
    assert counts[:, 2].sum() == 6 * 48 * 64  # every pixel of every test photo is labelled
    assert (tmp_path / "trained" / EXAMPLES_FILE).is_file()


def test_a_finished_training_is_tested_again_without_training(tmp_path, splits):
    before = run(tmp_path, splits, training="3 steps")
    (tmp_path / "outcome.json").unlink()
    lines = losses(tmp_path)
    again = run(tmp_path, splits, training="3 steps")
    assert again.metrics == before.metrics
    assert losses(tmp_path) == lines
    with pytest.raises(ValueError, match="lr"):
        run(tmp_path, splits, training="3 steps", lr=0.1)


def test_what_is_seen_of_a_test_photo(tmp_path, splits):
    shared = {"training": "1 steps", "batch_size": 2}
    run(tmp_path / "central", splits, inference="central", **shared)
    run(tmp_path / "scaled", splits, short_side=24, **shared)
    central, scaled = (np.load(tmp_path / name / segmentation.COUNTS_FILE) for name in ("central", "scaled"))
    assert central[:, 2].sum() == 6 * 33 * 33
    assert scaled[:, 2].sum() == 6 * 48 * 64


def test_maps_that_do_not_fit_are_refused(tmp_path, splits):
    with pytest.raises(ValueError, match="not of one run"):
        run(tmp_path, splits, test_maps=splits["train_maps"])
    other = tmp_path / "other"
    other.mkdir()
    for file in splits["test_maps"].iterdir():
        if file.is_file():
            (other / file.name).write_bytes(file.read_bytes())
    (other / class_maps.CLASSES_FILE).write_text('["background", "thing"]')
    with pytest.raises(ValueError, match=r"21 classes and .* has 2"):
        run(tmp_path, splits, test_maps=other)
    with pytest.raises(ValueError, match="is for ResNets"):
        run(tmp_path, splits, output_stride=16)


@pytest.mark.slow
def test_labelled_scenes(tmp_path, photos_dir):
    """Far too short to know the classes, long enough to beat an untrained head and the guess of one class for all."""
    scenes.run(out=tmp_path / "scenes", report=Report(), photos=photos_dir, train_images=160, test_images=40, side=64,
               seed=0, workers=2)  # fmt: skip
    splits: dict[str, Any] = {}
    for split in scenes.SPLITS:
        root, catalog, maps = (tmp_path / part / split for part in ("scenes", "catalog", "maps"))
        catalog.mkdir(parents=True)
        maps.mkdir(parents=True)
        indexing.run(out=catalog, report=Report(), format="coco", root=root,
                     annotations=tmp_path / "scenes" / f"instances_{split}.json", split=None, list_file=None,
                     min_side=32, max_rejected=0.0, workers=1)  # fmt: skip
        class_maps.run(out=maps, report=Report(), catalog=catalog, root=root, source="objects", labels=None,
                       workers=1, engine=LocalEngine(1))  # fmt: skip
        splits |= {split: catalog, f"{split}_root": root, f"{split}_maps": maps}
    whole = {"crop": 65, "scales": (0.8, 1.25), "batch_size": 8}
    run(tmp_path / "trained", splits, training="200 steps", lr=0.1, **whole)
    run(tmp_path / "untrained", splits, training="1 steps", lr=1e-9, **whole)
    trained, untrained = (load_outcome(tmp_path / name, THIS).values["miou"][THIS] for name in ("trained", "untrained"))
    assert trained.value > untrained.value + 0.02
    assert trained.value > trained.chance
    first, *_, last = losses(tmp_path / "trained")
    assert last < 0.6 * first
