"""The step as it is run: ORL on hand-made regions and pairs, DetCon on squares, the image-level methods on boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages import object_pretraining
from stages.correspondence import masks as masks_step
from stages.data.catalog import Catalog
from stages.learning.encoder import load_encoder, random_encoder, save_encoder
from stages.report import Report
from stages.shards import LocalEngine
from tests.stages.correspondence.mined_files import write_boxes, write_pairs
from tests.stages.learning.settings import ENCODER, LOOP, OBJECTIVES, PLACE


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


@pytest.fixture(scope="module")
def masks(photo_catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine squares of each photo."""
    out = tmp_path_factory.mktemp("masks")
    masks_step.run(
        out=out, report=Report(), catalog=photo_catalog.directory, root=photo_catalog.root, method="grid",
        options={"cells": (3,)}, device="cpu", workers=1, engine=LocalEngine(1),
    )  # fmt: skip
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


def other_arguments(catalog: Catalog, out: Path, method: str, **changes: Any) -> dict[str, Any]:
    """Of the methods beside ORL; `changes` of `views` and `objective` join what stands here."""
    contrast = {"temperature": 0.1, "reading": "code", "negatives": "all", "views": "two"}
    views: dict[str, Any] = {"size": 64, "min_crop": 0.2, "photometry": "byol"}
    objectives = OBJECTIVES | {"detcon_s": contrast, "detcon_b": contrast | OBJECTIVES["byol"]}
    given = {
        "out": out, "catalog": catalog.directory, "root": catalog.root, "method": method, "encoder": ENCODER,
        "training": LOOP | {"epochs": "2 steps", "warmup": "0 steps"}, **PLACE,
    }  # fmt: skip
    given["views"] = views | changes.pop("views", {})
    given["objective"] = objectives[method] | changes.pop("objective", {})
    return given | changes


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
    ("weights", "shown"),
    [
        ({"inter": 0.0}, {"image", "intra"}),
        ({"inter": 0.0, "intra": 0.0}, {"image"}),
        ({"intra": 0.0}, {"image", "inter"}),
    ],
)
def test_parts_without_weight_need_no_files(
    weights: dict[str, float], shown: set[str], photo_catalog: Catalog, mined: Path, tmp_path: Path
):
    given = arguments(photo_catalog, mined, tmp_path, weights=weights, epochs="1 step")
    if "inter" not in shown:
        given["correspondence"] = None
    if shown == {"image"}:
        given["regions"] = None
    object_pretraining.run(report=Report(), **given)
    logged = {name for name in records(tmp_path)[0] if name.startswith("loss_")}
    assert logged == {f"loss_{part}" for part in shown}


@pytest.mark.parametrize("pooling", ["hard", "soft", "local"])
@pytest.mark.parametrize("method", ["detcon_s", "detcon_b"])
def test_detcon_trains_on_regions(method: str, pooling: str, photo_catalog: Catalog, masks: Path, tmp_path: Path):
    views = {"regions": 4, "pooling": pooling}
    object_pretraining.run(
        report=Report(), **other_arguments(photo_catalog, tmp_path, method, views=views, masks=masks)
    )
    assert load_encoder(tmp_path).settings == ENCODER
    assert all(np.isfinite(record["loss"]) and record["loss"] > 0 for record in records(tmp_path))


@pytest.mark.parametrize("method", ["byol", "simclr", "moco", "densecl"])
def test_image_level_methods_train_on_crops_of_boxes(method: str, photo_catalog: Catalog, mined: Path, tmp_path: Path):
    crops = {"mode": "obj_obj_dilate", "dilation": 0.1, "proposals": 2, "min_crop": None, "min_box": 96}
    report = Report()
    object_pretraining.run(
        report=report,
        **other_arguments(
            photo_catalog, tmp_path, method, views={"crops": crops}, objective={"two_heads": True}, regions=mined
        ),
    )
    assert load_encoder(tmp_path).settings == ENCODER, "the object head is no part of what comes out"
    # Boxes are widened to 96 pixels, in photos of at most 256.
    assert 96**2 / 256**2 <= report.metrics["box_share"] < 1
    assert 0.2 < report.metrics["min_crop"] < 1


def test_byol_may_have_small_views(photo_catalog: Catalog, tmp_path: Path):
    small = {"small_views": 2, "small_size": 32, "small_scale": (0.05, 0.14)}
    given = other_arguments(photo_catalog, tmp_path, "byol", views=small, objective={"small_views": 2})
    object_pretraining.run(report=Report(), **given)
    assert len(records(tmp_path)) == 2


def test_what_views_are_drawn_from_must_be_there(photo_catalog: Catalog, tmp_path: Path):
    views = {"regions": 4, "pooling": "hard"}
    with pytest.raises(ValueError, match="pass the directory of a `masks` artifact"):
        object_pretraining.run(report=Report(), **other_arguments(photo_catalog, tmp_path, "detcon_s", views=views))
    crops = {"mode": "obj_scene", "proposals": 2, "min_crop": None, "min_box": 96}
    with pytest.raises(ValueError, match="pass the directory of a `regions` artifact"):
        object_pretraining.run(
            report=Report(), **other_arguments(photo_catalog, tmp_path, "moco", views={"crops": crops})
        )


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
