"""The whole stage on real labelled photos with tiny untrained encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stages.evaluation import stage
from stages.learning.encoder import random_encoder, save_encoder
from stages.report import Report

FILES = {"results.json", "report.md", "comparison.png"}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directories = {}
    for seed, name in enumerate(("image_pretraining", "object_pretraining"), start=1):
        directories[name] = tmp_path_factory.mktemp(name)
        save_encoder(
            random_encoder(seed, backbone="test_resnet", projector_hidden=16, projector_out=8), directories[name]
        )
    return directories


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "train": None, "train_root": None, "test": None, "test_root": None,
        "resize": 36, "crop": 32, "object_size": 32, "view_size": 32, "costs": (0.1, 1.0), "batch_size": 32,
        "max_images": 20, "seed": 0, "device": "cpu", "workers": 1,
    } | changes  # fmt: skip


def test_labelled_photos(tmp_path, encoders, voc_catalogs):
    train, test = voc_catalogs
    labelled = settings(train=train.directory, train_root=train.root, test=test.directory, test_root=test.root)
    shown = {"catalog": train.directory, "root": train.root, "encoders": encoders}
    report = Report()
    stage.run(out=tmp_path, report=report, **shown, **labelled)

    assert {path.name for path in tmp_path.iterdir()} == FILES
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {row["protocol"] for row in rows} == {"linear_svm", "object_neighbors", "view_retrieval", "spread"}
    assert {row["encoder"] for row in rows} == {"image_pretraining", "object_pretraining", "random"}
    assert set(rows[0]) == {
        "encoder", "protocol", "figure", "value", "low", "high", "chance", "data", "seed", "settings",
    }  # fmt: skip
    for row in rows:
        if row["low"] is not None:
            assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1, row
    assert {row["data"] for row in rows if row["protocol"] != "spread"} == {test.directory.name}
    for metric in ("linear_svm", "object_neighbors", "view_retrieval", "effective_rank", "collapsed"):
        for name in (*encoders, "random"):
            assert isinstance(report.metrics[f"{name}.{metric}"], float)

    text = (tmp_path / "report.md").read_text()
    tables = [line for line in text.splitlines() if line.startswith("| figure")]
    assert tables[0] == "| figure | image_pretraining | object_pretraining | random | chance |"
    assert "| linear SVM mAP | " in text
    assert "nan" not in text.lower().split()
    with Image.open(tmp_path / "comparison.png") as plot:
        assert plot.width > 800

    again = tmp_path / "again"
    again.mkdir()
    stage.run(out=again, report=Report(), **shown, **labelled)
    assert (again / "results.json").read_bytes() == (tmp_path / "results.json").read_bytes()


def test_without_labels(tmp_path, encoders, photo_catalog):
    shown = {"catalog": photo_catalog.directory, "root": photo_catalog.root}
    stage.run(out=tmp_path, report=Report(), encoders=encoders, **shown, **settings(max_images=6))
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {row["protocol"] for row in rows} == {"view_retrieval", "spread"}
    assert {row["settings"]["images"] for row in rows} == {6}
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_impossible_arguments_name_the_remedy(tmp_path, encoders, photo_catalog):
    shown = {"out": tmp_path, "report": Report(), "catalog": photo_catalog.directory, "root": photo_catalog.root}
    with pytest.raises(ValueError, match="at least one directory"):
        stage.run(**shown, encoders={}, **settings())
    with pytest.raises(ValueError, match="go together"):
        stage.run(**shown, encoders=encoders, **settings(train=photo_catalog.directory))
    with pytest.raises(ValueError, match="lower crop or raise resize"):
        stage.run(**shown, encoders=encoders, **settings(crop=64))
    with pytest.raises(ValueError, match=r"raise evaluation\.max_images"):
        stage.run(**shown, encoders=encoders, **settings(max_images=1))
