"""Fine-tuning: all weights learn, on the photos that were chosen, at two rates."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from process_pair import ProcessPair

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.evaluation.encoders import open_backbone
from stages.evaluation.protocols import fine_tuning
from stages.evaluation.saved import load_outcome
from stages.report import Report
from tests.stages.evaluation.protocols.test_linear_probe import CONV4, TRAINING, final
from tests.stages.learning.small_training import At

Pair = tuple[Catalog, Catalog]
SETTINGS: dict[str, Any] = {
    "encoder": CONV4, "init": "encoder", "labels": 1.0, "draw": 0, "head_factor": 10.0, "augmentation": "plain",
    "min_crop": 0.5, "resize": 48, "crop": 48, "seed": 0, "device": "cpu", "workers": 0,
}  # fmt: skip
GENTLE = {"base_lr": 0.2, "nesterov": False}


def run(catalogs: Pair, out: Path, report: Report | None = None, **changes: Any) -> Report:
    report = report or Report()
    out.mkdir(exist_ok=True)
    train, test = catalogs
    training = TRAINING | GENTLE | changes.pop("training", {})
    fine_tuning.run(
        out=out, report=report, train=train.directory, train_root=train.root, test=test.directory, test_root=test.root,
        training=training, **(SETTINGS | changes),
    )  # fmt: skip
    return report


def test_learns_from_an_encoder_stops_and_goes_on(stripes: Pair, tmp_path: Path):
    report = run(stripes, tmp_path / "whole")
    outcome = load_outcome(tmp_path / "whole", "mine")
    assert outcome.values["top1"]["mine"].value == report.metrics["top1"] > 0.6
    assert outcome.settings["train_images"] == 36
    assert not (tmp_path / "whole" / "subset.txt").exists()
    with pytest.raises(SystemExit) as stopped:
        run(stripes, tmp_path / "parts", At(5, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert stopped.value.code == 75
    run(stripes, tmp_path / "parts")
    before, after = final(tmp_path / "whole"), final(tmp_path / "parts")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_learns_on_the_subset_at_two_rates(stripes: Pair, tmp_path: Path):
    """With a rate of 0 the backbone's weights stay, its statistics do not, and the classifier's learn."""
    run(stripes, tmp_path, labels=0.5, training={"epochs": "2 steps", "base_lr": 1e-12}, head_factor=1e10)
    names = (tmp_path / "subset.txt").read_text().split()
    assert len(names) == 18
    assert {name.split("/")[0] for name in names} == {"across", "along", "slanted"}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["epoch"] == 1.0, "18 photos a step are an epoch"
    weights, backbone = final(tmp_path), open_backbone(**CONV4).state_dict()
    torch.testing.assert_close(weights["backbone.net.0.weight"], backbone["net.0.weight"], rtol=0, atol=1e-9)
    assert not torch.equal(weights["backbone.net.1.running_mean"], backbone["net.1.running_mean"])
    assert weights["classifier.bias"].abs().max() > 1e-5


def test_random_starts_without_the_encoders_weights(stripes: Pair, tmp_path: Path):
    for name, seed in (("mine", 1), ("other", 2)):
        encoder = CONV4 | {"seed": seed}
        run(stripes, tmp_path / name, init="random", encoder=encoder, training={"epochs": "1 step", "base_lr": 1e-12})
    mine, other = final(tmp_path / "mine"), final(tmp_path / "other")
    assert torch.equal(mine["backbone.net.0.weight"], other["backbone.net.0.weight"])
    given = open_backbone(**(CONV4 | {"seed": 1})).state_dict()["net.0.weight"]
    assert not torch.allclose(mine["backbone.net.0.weight"], given)


def test_an_unknown_start_is_refused(stripes: Pair, tmp_path: Path):
    with pytest.raises(ValueError, match=r"init 'imagenet' is not known\. Choose one of encoder, random"):
        run(stripes, tmp_path, init="imagenet")


def work(folders: tuple[tuple[Path, Path], ...], out: Path) -> float | None:
    """In each of two processes; the first gives the share of right answers."""
    torch.manual_seed(0)
    first, second = (Catalog(*each) for each in folders)
    return run((first, second), out, training={"epochs": "4 steps"}).metrics.get("top1")


def test_two_processes_learn_what_one_learns(two_processes: ProcessPair, stripes: Pair, tmp_path: Path):
    folders = tuple((catalog.directory, Path(str(catalog.root))) for catalog in stripes)
    (tmp_path / "two").mkdir()
    accuracy, nothing = two_processes(work, folders, tmp_path / "two")
    assert (accuracy, nothing) == (work(folders, tmp_path / "one"), None)
    one, two = final(tmp_path / "one"), final(tmp_path / "two")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_supervised_from_scratch_rises_above_chance_on_voc(shared_data: Path, tmp_path: Path):
    """The upper reference at toy size: 400 photos of VOC2007, three dozen passes of a small network."""
    source = shared_data / "VOCdevkit" / "VOC2007"
    root = tmp_path / "VOC2007"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).symlink_to(source / folder)
    catalogs = []
    for split, number in (("trainval", 400), ("test", 300)):
        names = (source / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:number]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
        (tmp_path / split).mkdir()
        indexing.run(
            out=tmp_path / split, report=Report(), format="voc", root=root, split=split, min_side=32,
            max_rejected=0.0, workers=1,
        )  # fmt: skip
        catalogs.append(Catalog(tmp_path / split, root))
    run(
        (catalogs[0], catalogs[1]), tmp_path / "out", init="random", crop=64, resize=72, head_factor=1.0,
        augmentation="color", training={"epochs": "200 steps", "drops": ("150 steps",), "batch_size": 32,
                                        "base_lr": 0.4},
    )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["loss"] for line in lines[-10:]) < 0.8 * sum(line["loss"] for line in lines[:10])
    found = load_outcome(tmp_path / "out", "mine").values["map"]["mine"]
    assert found.interval is not None
    assert found.chance is not None
    assert found.interval[0] > found.chance
