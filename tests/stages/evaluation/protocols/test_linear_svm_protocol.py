"""The protocol on made features, and whole on real labelled photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import plant

from stages.data.catalog import Catalog
from stages.evaluation import features
from stages.evaluation.protocols import linear_svm
from stages.evaluation.saved import load_outcome
from stages.report import Report

Labelled = tuple[Catalog, Catalog]


@pytest.fixture
def labelled(make_catalog) -> Labelled:
    """40 photos each, with a cat, a dog, both or neither; the last one of each ten has a difficult cat alone."""
    shown = [[0], [1], [0, 1], [], [0], [1], [1], [0], [], []] * 4
    rows = [(i, c, 0, 0, 50, 50, False, False) for i, classes in enumerate(shown) for c in classes]
    rows += [(i, 0, 0, 0, 50, 50, True, False) for i in range(9, 40, 10)]
    return make_catalog("train", 40, rows), make_catalog("test", 40, rows)


def run(out: Path, labelled: Labelled, made: tuple[Path, Path], **changes: Any) -> Report:
    out.mkdir(exist_ok=True)
    report = Report()
    (train, test), settings = labelled, {"costs": [0.1, 1.0], "difficult": "reference", "ap": "area"}
    linear_svm.run(
        out=out, report=report, features_train=made[0], features_test=made[1], train=train.directory,
        train_root=train.root, test=test.directory, test_root=test.root, seed=0, workers=1,
        **({"depths": ["gap", "layer4"]} | settings | changes),
    )  # fmt: skip
    return report


def planted(tmp_path: Path) -> tuple[Path, Path]:
    """At layer4 the features are the labels, at gap they are noise."""
    held = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [0, 1], [1, 0], [0, 0], [0, 0]] * 4)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 40, 5))
    truth = np.column_stack([held, np.ones(40)])
    return plant(tmp_path / "a", gap=noise[0], layer4=truth), plant(tmp_path / "b", gap=noise[1], layer4=truth)


@pytest.mark.parametrize("ap", ["area", "11_point"])
def test_each_depth_has_its_figure_and_the_best_is_quoted(tmp_path, labelled, ap):
    report = run(tmp_path / "out", labelled, planted(tmp_path), ap=ap)
    outcome = load_outcome(tmp_path / "out", "mine")
    assert list(outcome.figures) == ["map", "map gap", "map layer4"]
    assert outcome.values["map layer4"]["mine"].value == outcome.values["map"]["mine"].value == 1
    noise = outcome.values["map gap"]["mine"]
    assert noise.value == pytest.approx(noise.chance, abs=0.2)
    assert outcome.values["ap cat"]["mine"].value == 1
    assert report.metrics == {"map": 1.0, "best_depth": "layer4"}
    assert any("Best depth: layer4" in note for note in outcome.notes)
    assert (outcome.settings["ap"], outcome.settings["picture"]) == (ap, "squeeze")
    low, high = noise.interval
    assert low < noise.value < high


def test_shuffled_labels_score_chance(tmp_path, make_catalog):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=(2, 300))
    catalogs = [
        make_catalog(name, 300, [(i, int(c), 0, 0, 50, 50, False, False) for i, c in enumerate(classes)])
        for name, classes in zip(("train", "test"), labels, strict=True)
    ]
    told = rng.normal(size=(2, 300, 16)) + 0.5 * labels[:, :, None]
    values = {}
    for name, train in (("told", told[0]), ("shuffled", rng.permutation(told[0]))):
        made = plant(tmp_path / f"{name}a", gap=train), plant(tmp_path / f"{name}b", gap=told[1])
        run(tmp_path / name, (catalogs[0], catalogs[1]), made, depths=["gap"])
        values[name] = load_outcome(tmp_path / name, "mine").values["map"]["mine"]
    assert values["told"].value > 0.9
    assert values["shuffled"].value == pytest.approx(values["shuffled"].chance, abs=0.15)


def test_difficult_photos_are_left_out_of_training_when_corrected(tmp_path, labelled):
    made = planted(tmp_path)
    found = {}
    for way in ("reference", "corrected"):
        run(tmp_path / way, labelled, made, difficult=way, depths=["gap"], costs=[1.0])
        found[way] = load_outcome(tmp_path / way, "mine").values
    assert found["reference"]["ap cat"]["mine"].value != found["corrected"]["ap cat"]["mine"].value
    assert found["reference"]["ap dog"]["mine"] == found["corrected"]["ap dog"]["mine"], "no dog is difficult"


def test_an_interrupted_search_goes_on(tmp_path, labelled):
    made = planted(tmp_path)
    run(tmp_path / "whole", labelled, made)
    lines = (tmp_path / "whole" / "search.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 * 2 * 3 * 2  # depths, classes, folds, costs
    (tmp_path / "part").mkdir()
    # One trial has another figure, to see that it is taken as it is; the last line was cut off.
    first = json.loads(lines[0]) | {"precision": 0.123}
    kept = [json.dumps(first).encode() + b"\n", *lines[1:7], lines[7][:9]]
    (tmp_path / "part" / "search.jsonl").write_bytes(b"".join(kept))
    run(tmp_path / "part", labelled, made)
    again = (tmp_path / "part" / "search.jsonl").read_bytes().splitlines(keepends=True)
    assert again[:7] == kept[:7]
    assert sorted(again[7:]) == sorted(lines[7:])


def test_errors_say_what_to_do(tmp_path, labelled, make_catalog):
    made = planted(tmp_path)
    with pytest.raises(ValueError, match="none at 'layer3'"):
        run(tmp_path / "a", labelled, made, depths=["layer3"])
    with pytest.raises(ValueError, match="reference, corrected"):
        run(tmp_path / "b", labelled, made, difficult="no")
    with pytest.raises(ValueError, match="area, 11_point"):
        run(tmp_path / "c", labelled, made, ap="mean")
    with pytest.raises(ValueError, match="openselfsup, vissl"):
        run(tmp_path / "d", labelled, made, costs="svm")
    with pytest.raises(ValueError, match="two splits of one data set"):
        run(tmp_path / "e", (labelled[0], make_catalog("other", 40, [], ("cat", "cow"))), made)


def test_voc(tmp_path, voc_catalogs):
    """Real photos, from the file to the outcome."""
    made = []
    for catalog in voc_catalogs:
        made.append(tmp_path / catalog.directory.name)
        made[-1].mkdir()
        features.run(
            out=made[-1], report=Report(), encoder={"kind": "random", "backbone": "conv4", "path": None, "seed": 0},
            catalog=catalog.directory, root=catalog.root, picture="squeeze", resize=72, crop=64, depths=["gap"],
            batch_size=16, device="cpu", workers=0,
        )  # fmt: skip
    run(tmp_path / "out", voc_catalogs, (made[0], made[1]), depths=["gap"], costs="vissl")
    outcome = load_outcome(tmp_path / "out", "mine")
    assert 0 < outcome.values["map"]["mine"].value < 1
    assert list(outcome.figures) == ["map"]
    trials = [json.loads(line) for line in (tmp_path / "out" / "search.jsonl").read_text().splitlines()]
    assert {trial["cost"] for trial in trials} == {0.01, 0.1, 1, 2, 5, 10, 15, 20, 50, 100, 1000}
    classes = sum(name.startswith("ap ") for name in outcome.values)
    assert len(trials) == classes * 3 * 11
