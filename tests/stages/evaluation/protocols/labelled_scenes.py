"""A few drawn scenes with exact masks, and what protocols need of them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.data import indexing, scenes
from stages.data.catalog import Catalog
from stages.evaluation import features
from stages.report import Report

SCENES = 8
ENCODER: dict[str, Any] = {"kind": "random", "backbone": "conv4", "path": None, "seed": 0}


@lru_cache(maxsize=1)
def scene_catalog(photos: Path) -> Catalog:
    """SCENES scenes of 128 x 128 pixels, set into `photos`; made once for all tests, in a folder beside that one."""
    folder = photos.with_name("labelled_scenes")
    scenes.run(
        out=folder, report=Report(), photos=photos, train_images=0, test_images=SCENES, side=128, seed=0, workers=1
    )
    out = folder / "catalog"
    out.mkdir()
    indexing.run(
        out=out, report=Report(), format="coco", root=folder / "test", annotations=folder / "instances_test.json",
        split=None, list_file=None, min_side=32, max_rejected=0.0, workers=1,
    )  # fmt: skip
    return Catalog(out, folder / "test")


def scene_features(out: Path, catalog: Catalog, encoder: dict[str, Any] | None = None) -> Path:
    out.mkdir()
    features.run(
        out=out, report=Report(), encoder=encoder or ENCODER, catalog=catalog.directory, root=catalog.root,
        picture="crop", resize=64, crop=64, depths=["gap"], batch_size=4, device="cpu", workers=0,
    )  # fmt: skip
    return out


def outcome_of(directory: Path) -> dict[str, Any]:
    """`outcome.json`, and its values alone as `value`."""
    content = json.loads((directory / "outcome.json").read_text())
    return content | {"value": {name: each["value"] for name, each in content["values"].items()}}
