"""The step as it is run, on hand-made regions and pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages import object_pretraining
from stages.data.catalog import Catalog
from stages.learning.encoder import load_encoder, random_encoder, save_encoder
from stages.report import Report
from tests.stages.correspondence.mined_files import write_boxes, write_pairs
from tests.stages.learning.settings import ENCODER, LOOP, PLACE


@pytest.fixture(scope="module")
def mined(photo_catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two boxes in each photo, and two pairs of them with the next photo."""
    out = tmp_path_factory.mktemp("mined")
    n = len(photo_catalog)
    image, roi = np.repeat(np.arange(n), 2), np.tile([0, 1], n)
    boxes = pd.DataFrame({"image": image, "roi": roi, "x0": 10 * roi, "y0": 5, "x1": 90 + 10 * roi, "y1": 85})
    pairs = pd.DataFrame({"image": image, "rank": 0, "neighbor": (image + 1) % n, "roi": roi, "neighbor_roi": 1 - roi})
    write_pairs(out, write_boxes(out, boxes), pairs)
    return out


def arguments(
    catalog: Catalog, mined: Path, out: Path, *, method: str = "orl", init: Path | None = None,
    weights: dict[str, float] | None = None, **training: Any,
) -> dict[str, Any]:  # fmt: skip
    out.mkdir(exist_ok=True)
    changes = {"epochs": "3 steps", "warmup": "0 steps"} | training
    return {
        "out": out, "catalog": catalog.directory, "root": catalog.root, "regions": mined, "correspondence": mined,
        "method": method, "encoder": ENCODER, "init": init, "training": LOOP | changes, **PLACE,
        "views": {"global_size": 48, "patch_size": 32, "min_crop": 0.2, "jitter": "one", "photometry": "byol"},
        "objective": {"predictor_hidden": 16, "tau": 0.9,
                      "weights": {"image": 1.0, "intra": 1.0, "inter": 1.0} | (weights or {})},
    }  # fmt: skip


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_trains_on_photos_and_regions(photo_catalog: Catalog, mined: Path, tmp_path: Path):
    report = Report()
    object_pretraining.run(report=report, **arguments(photo_catalog, mined, tmp_path))

    assert load_encoder(tmp_path).settings == ENCODER
    assert (tmp_path / "views.png").is_file()
    for record in records(tmp_path):
        parts = record["loss_image"] + record["loss_intra"] + record["loss_inter"]
        assert record["loss"] == pytest.approx(parts, rel=1e-5)
        assert 0 <= record["loss"] <= 24
    assert report.metrics["steps"] == 3


def test_starts_from_the_weights_of_image_pretraining_where_asked(photo_catalog: Catalog, mined: Path, tmp_path: Path):
    first = random_encoder(7, **ENCODER)
    save_encoder(first, tmp_path)
    still = {"base_lr": 1e-12, "weight_decay": 0.0, "epochs": "1 step"}
    given = arguments(photo_catalog, mined, tmp_path / "given", init=tmp_path, **still)
    scratch = arguments(photo_catalog, mined, tmp_path / "scratch", **still)
    object_pretraining.run(report=Report(), **given)
    object_pretraining.run(report=Report(), **scratch)

    expected = first.projector[3].weight
    torch.testing.assert_close(load_encoder(tmp_path / "given").projector[3].weight, expected)
    assert not torch.allclose(load_encoder(tmp_path / "scratch").projector[3].weight, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "detcon"}, "no method 'detcon'. There are: orl"),
        ({"weights": {"inter": -1.0}}, "none below 0"),
    ],
)
def test_impossible_settings_are_refused(
    change: dict[str, Any], message: str, photo_catalog: Catalog, mined: Path, tmp_path: Path
):
    with pytest.raises(ValueError, match=message):
        object_pretraining.run(report=Report(), **arguments(photo_catalog, mined, tmp_path, **change))
