"""Linear probes: what they train, what they leave alone, and what they say."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.data.catalog import Catalog
from stages.evaluation.encoders import open_backbone
from stages.evaluation.protocols import linear_probe
from stages.evaluation.protocols.linear_probe import Probe
from stages.evaluation.pyramid import Pyramid
from stages.evaluation.saved import load_outcome
from stages.evaluation.tasks.classification import classification_loss
from stages.learning.checkpoints import Checkpoint
from stages.report import Report
from tests.stages.learning.small_training import At

ENCODER = {"kind": "random", "backbone": "resnet10t", "path": None, "seed": 0}
CONV4 = ENCODER | {"backbone": "conv4"}
TRAINING = {
    "epochs": "16 steps", "schedule": "drops", "drops": ("12 steps",), "drop_factor": 0.1, "batch_size": 18,
    "base_lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "precision": "fp32", "log_every": 1,
    "checkpoint_minutes": 1000.0,
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "depths": ("conv1", "gap"), "batch_norm": True, "optimizer": "sgd", "augmentation": "plain", "min_crop": 0.5,
    "resize": 48, "crop": 48, "seed": 0, "device": "cpu", "workers": 0,
}  # fmt: skip


def run(catalogs: tuple[Catalog, Catalog], out: Path, report: Report | None = None, **changes: Any) -> Report:
    report = report or Report()
    out.mkdir(exist_ok=True)
    train, test = catalogs
    training = TRAINING | changes.pop("training", {})
    linear_probe.run(
        out=out, report=report, train=train.directory, train_root=train.root, test=test.directory, test_root=test.root,
        **({"encoder": CONV4, "training": training} | SETTINGS | changes),
    )  # fmt: skip
    return report


def final(out: Path) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoint.load(out)
    assert checkpoint is not None
    return dict(checkpoint.method)


def test_five_heads_have_the_sizes_of_the_official_code():
    probe = Probe(
        Pyramid(open_backbone(**(ENCODER | {"backbone": "resnet26"}))),
        ["conv1", "layer1", "layer2", "layer3", "layer4", "gap"], 3, batch_norm=True, seed=0,
    )  # fmt: skip
    widths = [head[-1].in_features for head in probe.heads.values()]
    assert widths == [9216, 9216, 8192, 9216, 8192, 2048]
    assert probe.heads["layer4"][-1].weight.std().item() == pytest.approx(0.01, rel=0.05)
    trained = {name.split(".")[0] for name, parameter in probe.named_parameters() if parameter.requires_grad}
    assert trained == {"heads"}


def test_a_head_on_the_averaged_map_is_batch_norm_and_a_linear_layer():
    backbone = open_backbone(**ENCODER)
    pixels = torch.randint(0, 256, (6, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        features = backbone(pixels).mean(dim=(2, 3))
    probe = Probe(Pyramid(backbone), ["gap"], 3, batch_norm=True, seed=0).train()
    scores = probe.scores(pixels)["gap"]
    linear = probe.heads["gap"][-1]
    expected = linear(nn.BatchNorm1d(features.shape[1], affine=False)(features))
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    assert not probe.pyramid.training
    batch = {"pixels": pixels, "light": torch.zeros(6, 3), "target": torch.tensor([0, 1, 2, 0, 1, 2])}
    loss, figures = probe(batch)
    torch.testing.assert_close(loss, classification_loss(scores, batch["target"]), rtol=1e-4, atol=1e-5)
    assert figures.keys() == {"loss gap"}


def test_learns_stops_and_goes_on_and_leaves_the_encoder_alone(stripes: tuple[Catalog, Catalog], tmp_path: Path):
    report = run(stripes, tmp_path / "whole")
    outcome = load_outcome(tmp_path / "whole", "mine")
    values = {name: by_encoder["mine"].value for name, by_encoder in outcome.values.items()}
    assert values.keys() == {"top1", "mean_class", *(f"{n} {d}" for n in ("top1", "mean_class")
                                                     for d in ("conv1", "gap"))}  # fmt: skip
    assert values["top1"] == max(values["top1 conv1"], values["top1 gap"]) > 0.6
    assert report.metrics["top1"] == values["top1"]
    assert outcome.settings["train_images"] == 36
    assert "best depth" in " ".join(outcome.notes)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss gap"] < lines[0]["loss gap"]
    assert lines[11]["lr"] == pytest.approx(10 * lines[12]["lr"])

    with pytest.raises(SystemExit) as stopped:
        run(stripes, tmp_path / "parts", At(5, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert stopped.value.code == 75
    run(stripes, tmp_path / "parts")
    before, after = final(tmp_path / "whole"), final(tmp_path / "parts")
    assert all(torch.equal(before[name], after[name]) for name in before)
    backbone = open_backbone(**CONV4).state_dict()
    assert all(torch.equal(before[f"pyramid.backbone.{name}"], tensor) for name, tensor in backbone.items())


def test_shuffled_labels_score_chance(stripes: tuple[Catalog, Catalog], tmp_path: Path):
    """The test's classes in another order: a classifier that has learned the right ones is wrong about as often."""
    train, test = stripes
    shuffled = tmp_path / "catalog"
    shuffled.mkdir()
    for file in test.directory.iterdir():
        if file.is_file():
            (shuffled / file.name).write_bytes(file.read_bytes())
    np.save(shuffled / "classes.npy", np.random.default_rng(0).permutation(np.asarray(test.classes)))
    run((train, Catalog(shuffled, test.root)), tmp_path / "out", depths=["gap"])
    estimate = load_outcome(tmp_path / "out", "mine").values["top1"]["mine"]
    assert estimate.interval is not None
    low, high = estimate.interval
    assert low <= 1 / 3 <= high


def test_photos_of_many_classes_learn_by_binary_losses(voc_catalogs: tuple[Catalog, Catalog], tmp_path: Path):
    training = {"epochs": "2 steps", "batch_size": 8, "base_lr": 0.1}
    report = run(voc_catalogs, tmp_path, optimizer="lars", augmentation="color", depths=["gap"], training=training)
    outcome = load_outcome(tmp_path, "mine")
    assert 0 < outcome.values["map"]["mine"].value == report.metrics["map"] < 1
    assert any(name.startswith("ap ") for name in outcome.values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "adam"}, "optimizer 'adam' is not known for probes. Choose one of sgd, lars"),
        ({"depths": ["layer4"]}, "layer4"),
        ({"training": {"schedule": "steps"}}, "schedule 'steps' is not known"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, Any], words: str, stripes: tuple[Catalog, Catalog], tmp_path: Path
):
    with pytest.raises(ValueError, match=words):
        run(stripes, tmp_path, **changes)
