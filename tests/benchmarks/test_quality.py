"""That the benchmark runs and goes on where it was, and what it makes of figures; what is learned is not asked here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality.__main__ import main
from benchmarks.quality.estimate import Cost, fitting_epochs
from benchmarks.quality.figures import gains, order
from benchmarks.quality.methods import METHODS
from benchmarks.quality.report import MARK
from benchmarks.quality.shrink import shrink
from stages.config.files import load_config
from stages.data.formats import voc

CONFIGS = Path(main.__code__.co_filename).parent


def run(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The steps that were made, and the last line."""
    main(["--quick", "--methods", "byol", "detcon_b", "--seeds", "0", "--work", str(folder / "work"),
          "--out", str(folder / "quality.md")])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith("[")], json.loads(lines[-1])


def test_it_runs_and_makes_nothing_twice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ORL_ARTIFACTS", str(tmp_path))  # which the benchmark changes
    made, report = run(capsys, tmp_path)
    assert any(line.endswith("detcon_b, seed 0: masks") for line in made)
    assert not any(line.endswith(("roi_features", "correspondence")) for line in made), "nothing learns from pairs"
    for name in ("random", "byol", "detcon_b"):
        assert 0 <= report[f"scenes_{name}_svm_map"] <= 1
        assert 0 <= report[f"scenes_{name}_same_class"] <= 1
    assert report["data_sets"]["scenes"]["gains"]["svm_map"]["detcon_b"]["base"] == "byol"
    assert (tmp_path / "quality_scenes.png").stat().st_size > 0
    curves = json.loads((tmp_path / "quality.json").read_text())["data_sets"]["scenes"]["curves"]
    assert len(curves["detcon_b"][0]["loss"]) > 1
    assert len(curves["detcon_b"][0]["probe"]) == 1

    page = (tmp_path / "quality.md").read_text()
    assert "| DetCon_B - BYOL | " in page
    assert "): **unclear** |" in page, "one seed shows nothing"
    (tmp_path / "quality.md").write_text(page + "\nA longer warm-up changed nothing.\n")
    assert run(capsys, tmp_path)[0] == []
    assert (tmp_path / "quality.md").read_text().endswith(f"{MARK}\n\nA longer warm-up changed nothing.\n")


@pytest.mark.parametrize("data_set", ["voc", "scenes"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_heads_of_its_base(data_set: str, method: str):
    roots = [f"{place}.root=somewhere" for place in ("dataset", "evaluation.train", "evaluation.test",
             "image_pretraining.probe.data", "object_pretraining.probe.data")]  # fmt: skip
    chosen = METHODS[method]
    config = load_config(str(CONFIGS / f"{data_set}.yaml"), [*roots, *chosen.overrides])
    if chosen.base is not None:
        first, second = config.image_pretraining, config.object_pretraining
        assert first.method == chosen.base
        for name in ("projector_hidden", "projector_out", "projector_norm", "optimizer", "base_lr", "weight_decay"):
            assert getattr(first.recipe, name) == getattr(second.recipe, name)
        assert first.batch_size == second.batch_size


def test_an_order_shows_only_where_all_seeds_agree_and_the_gap_is_wide():
    assert order([0.02, 0.03, 0.025]) == "above"
    assert order([-0.02, -0.03, -0.025]) == "below"
    assert order([0.02, 0.03, -0.001]) == "unclear"
    assert order([0.001, 0.05, 0.003]) == "unclear"
    assert order([0.02]) == "unclear"


def test_gains_are_taken_seed_by_seed():
    found = gains({"random": [0.1, 0.1], "byol": [0.2, 0.4], "orl": [0.3, 0.4], "detcon_s": [0.9, 0.9]})
    assert set(found) == {"orl"}, "the base of the other was not measured"
    assert found["orl"]["differences"] == pytest.approx([0.1, 0.0])


def test_epochs_fill_the_time():
    cost = Cost(epoch=10.0, seed=100.0, photos_per_second={})
    assert fitting_epochs([cost], 3600, seeds=3) == 110
    assert cost.seconds(110, seeds=3) == 3600
    assert fitting_epochs([cost, cost], 3600, seeds=3) == 50
    assert fitting_epochs([cost], 360, seeds=2) == 8, "few are not rounded"


def test_shrunken_photos_keep_their_boxes(tmp_path: Path):
    year = tmp_path / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (year / folder).mkdir(parents=True)
    (year / "ImageSets" / "Main" / "trainval.txt").write_text("000001\n")
    Image.fromarray(np.zeros((200, 300, 3), np.uint8)).save(year / "JPEGImages" / "000001.jpg")
    (year / "Annotations" / "000001.xml").write_text(
        "<annotation><size><width>300</width><height>200</height></size><object><name>dog</name><bndbox>"
        "<xmin>1</xmin><ymin>21</ymin><xmax>300</xmax><ymax>120</ymax></bndbox></object></annotation>"
    )
    assert shrink(year, tmp_path / "small", 50) == 1
    assert Image.open(tmp_path / "small" / "JPEGImages" / "000001.jpg").size == (75, 50)
    listing = voc.read(tmp_path / "small", "trainval")
    assert listing.read_labels is not None
    labels = listing.read_labels()
    assert labels.objects.loc[0, ["x0", "y0", "x1", "y1"]].to_list() == pytest.approx([0, 5, 75, 30])
    assert labels.sizes is not None
    assert labels.sizes.tolist() == [[75, 50]]
