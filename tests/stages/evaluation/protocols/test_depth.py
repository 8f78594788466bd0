"""Depth from the frames to the outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted import METRES, index, paint
from PIL import Image

from stages.evaluation.metrics.depth_errors import NAMES
from stages.evaluation.protocols import depth
from stages.evaluation.saved import THIS, load_outcome
from stages.report import Report


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for seed, (split, photos) in enumerate((("train", 8), ("test", 4))):
        folder = tmp_path_factory.mktemp(split)
        paint(folder, photos, seed)
        made |= {split: index(folder), f"{split}_root": folder / "images", f"{split}_depth": folder / "depth"}
    return made


def run(out: Path, splits: dict[str, Any], **changes: Any) -> Report:
    settings: dict[str, Any] = {
        "encoder": {"kind": "random", "backbone": "conv4", "path": None, "seed": 0}, "depth_scale": 1000.0,
        "short_side": 24, "crop": (28, 20), "training": "2 steps", "batch_size": 4, "lr": 0.005, "weight_decay": 5e-4,
        "drops": (0.7,), "seed": 0, "device": "cpu", "workers": 0, "precision": "fp32",
    }  # fmt: skip
    out.mkdir(exist_ok=True)
    report = Report()
    depth.run(out=out, report=report, **splits | settings | changes)
    return report


def test_outcome(tmp_path, splits):
    report = run(tmp_path, splits)
    outcome = load_outcome(tmp_path, THIS)
    assert (outcome.protocol, outcome.data) == ("depth", "catalog")
    assert tuple(outcome.values) == NAMES == tuple(outcome.figures)
    assert report.metrics["depth_rms"] == outcome.values["rms"][THIS].value
    sums = np.load(tmp_path / depth.SUMS_FILE)
    assert sums.shape == (4, 7)
    assert set(sums[:, 0]) == {40 * 56}  # pixels of the frame itself, not of the smaller one that is shown
    # Guessing is another pixel's depth: right where that is of the same thing.
    shares = np.mean([[(np.abs(depths - metres) < 0.1).mean() for metres in METRES] for depths in _middles(splits)], 0)
    assert outcome.values["pct_1"][THIS].chance == pytest.approx((shares**2).sum(), abs=0.06)


def _middles(splits: dict[str, Any]) -> list[np.ndarray]:
    maps = [np.asarray(Image.open(path)) / 1000 for path in sorted(splits["test_depth"].iterdir())]
    return [each[4:44, 4:60] for each in maps]


@pytest.mark.slow
def test_depth_is_learned(tmp_path, splits):
    run(tmp_path, splits, training="60 steps")
    figures = {name: by_encoder[THIS] for name, by_encoder in load_outcome(tmp_path, THIS).values.items()}
    assert figures["pct_1"].value > figures["pct_1"].chance + 0.1
    assert figures["rms"].value < 0.6 * figures["rms"].chance
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.2 * lines[0]["loss"]


def test_folders_that_are_missing_stop_before_training(tmp_path, splits):
    with pytest.raises(FileNotFoundError, match=r"nyu_depth_v2_labeled.mat"):
        run(tmp_path, splits, test_depth=tmp_path / "nowhere")
    assert not (tmp_path / "metrics.jsonl").exists()
