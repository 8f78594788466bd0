"""The report of an evaluation: every figure of every encoder, what differs, and what has been published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.evaluation.activation_maps import PICTURE_FILE
from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.evaluation.saved import merged
from stages.evaluation.suite_report import write_suite_report

MAP = Figure("linear SVM mAP", "Mean over the classes.", metric="linear_svm")
RMS = Figure("depth rms (m)", "Lower is better.", percent=False, ranked=False)
BOXES = Figure("ABO of boxes", "Of boxes alone.")


def outcome(name: str, protocol: str, values: dict[str, float], figures: dict[str, Figure], spread: float) -> Outcome:
    around = np.linspace(-spread, spread, 200)
    estimates = {key: {name: Estimate(value, 0.1, value + around)} for key, value in values.items()}
    settings = {"costs": [0.5, 1.0], "depths": ["layer4", "gap"], "parts": []}
    return Outcome(protocol, "abc", settings, figures, estimates, [f"a note on {name}"])


@pytest.fixture
def outcomes() -> list[Outcome]:
    svm = {name: outcome(name, "linear_svm", {"map": value, "ap cat": value}, {"map": MAP}, 0.02)
           for name, value in (("mine", 0.6), ("random:resnet18", 0.3))}  # fmt: skip
    depth = {name: outcome(name, "depth", {"rms": value}, {"rms": RMS}, 0.1)
             for name, value in (("mine", 1.5), ("random:resnet18", 2.5))}  # fmt: skip
    boxes = {"regions:grid": outcome("regions:grid", "discovery", {"boxes": 0.2}, {"boxes": BOXES}, 0.0)}
    return [merged(svm), merged(depth), merged(boxes)]


def test_every_figure_stands_in_every_file(outcomes: list[Outcome], tmp_path: Path) -> None:
    report = write_suite_report(
        outcomes, tmp_path, title="VOC2007", source="a paper", published="voc07", photos=4952, seed=3
    )
    rows = {(row["protocol"], row["figure"], row["encoder"]): row for row in
            json.loads((tmp_path / "results.json").read_text())}  # fmt: skip
    assert len(rows) == 2 * 2 + 2 + 1
    assert rows["depth", "rms", "mine"]["value"] == 1.5
    assert rows["depth", "rms", "mine"]["high"] == pytest.approx(1.595), "metres are not cut off at 1"
    assert {row["seed"] for row in rows.values()} == {3}

    lines = report.read_text().splitlines()
    assert "VOC2007, as in a paper." in lines[2]
    assert "| figure | mine | random:resnet18 | regions:grid | chance |" in lines
    assert "| linear SVM mAP | **60.0** [58.1, 61.9] | 30.0 [28.1, 31.9] |  | 10.0 |" in lines
    assert "| depth rms (m) | 1.500 [1.405, 1.595] | 2.500 [2.405, 2.595] |  | 0.100 |" in lines
    assert "| ABO of boxes |  |  | 20.0 [20.0, 20.0] | 10.0 |" in lines
    assert "| figure | regions:grid - mine | mine - random:resnet18 | regions:grid - random:resnet18 |" in lines
    assert "| linear SVM mAP |  | **+30.0** [30.0, 30.0] |  |" in lines
    assert not any("depth rms" in line for line in lines[lines.index("## Differences") :][:8]), "less is better"
    assert not any(line.startswith("| ABO of boxes |  |  |  |") for line in lines), "nothing to compare it with"


def test_published_figures_of_that_data_set(outcomes: list[Outcome], tmp_path: Path) -> None:
    text = write_suite_report(
        outcomes, tmp_path, title="t", source=None, published="voc07", photos=4952, seed=0
    ).read_text()  # fmt: skip
    assert "| ORL | COCO | 800 | ResNet-50 | 86.7 |" in text
    assert "Not comparable" not in text
    with Image.open(tmp_path / "published.png") as picture:
        assert picture.width > 500
    fewer = write_suite_report(
        outcomes, tmp_path, title="t", source=None, published="voc07", photos=100, seed=0
    ).read_text()  # fmt: skip
    assert "Not comparable" in fewer
    alone = write_suite_report(outcomes, tmp_path, title="t", source=None, published=None, photos=1, seed=0)
    assert "published" not in alone.read_text()


def test_activation_maps_are_shown(outcomes: list[Outcome], tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "maps" / PICTURE_FILE)
    report = write_suite_report(
        outcomes, tmp_path, title="t", source=None, published=None, photos=1, seed=0, activation_maps=tmp_path / "maps"
    )
    assert f"]({PICTURE_FILE})" in report.read_text()
    assert (tmp_path / PICTURE_FILE).is_file()
