"""The step `discovery`: what networks, masks and boxes discover on drawn scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.correspondence import masks as masks_step
from stages.data.boxes import BoxesWriter
from stages.data.catalog import Catalog
from stages.data.masks import Masks
from stages.evaluation.discovery.photo_maps import PhotoMaps
from stages.evaluation.encoders import open_backbone
from stages.evaluation.metrics import best_overlap
from stages.evaluation.protocols import discovery
from stages.report import Report
from stages.shards import LocalEngine
from tests.stages.evaluation.protocols.labelled_scenes import ENCODER, SCENES, outcome_of, scene_catalog


@pytest.fixture(scope="module")
def scenes(photos_dir: Path) -> Catalog:
    return scene_catalog(photos_dir)


def discover(out: Path, catalog: Catalog, **source: Any) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"encoder": None, "masks": None, "regions": None, "clusters": [3, 6], "cells": 16}
    settings |= {"depth": None, "output_stride": 32, "distance": "cosine"}
    report = Report()
    discovery.run(
        out=out, report=report, test=catalog.directory, test_root=catalog.root, seed=0, device="cpu", workers=1,
        **(settings | source),
    )  # fmt: skip
    return outcome_of(out) | {"metrics": report.metrics}


@pytest.fixture(scope="module")
def discovered(tmp_path_factory: pytest.TempPathFactory, scenes: Catalog) -> Path:
    """What an untrained network discovers."""
    out = tmp_path_factory.mktemp("discovered")
    discover(out, scenes, encoder=ENCODER)
    return out


def make_masks(out: Path, catalog: Catalog, method: str, **options: Any) -> Path:
    out.mkdir()
    masks_step.run(
        out=out, report=Report(), catalog=catalog.directory, root=catalog.root, method=method, options=options,
        device="cpu", workers=1, engine=LocalEngine(1),
    )  # fmt: skip
    return out


def write_boxes(out: Path, boxes: list[np.ndarray]) -> Path:
    out.mkdir()
    with BoxesWriter(out) as writer:
        corners = np.concatenate(boxes)
        writer.append(np.array([len(each) for each in boxes]), corners, np.ones(len(corners), np.float32))
    return out


def test_a_network_discovers_and_an_interrupted_run_goes_on(
    scenes: Catalog, discovered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = outcome_of(discovered)
    monkeypatch.setattr(discovery, "_SHARD", 3)
    resumed = tmp_path / "resumed"
    discover(resumed, scenes, encoder=ENCODER)
    shards = sorted((resumed / "scratch" / "discovery").iterdir())
    assert len(shards) == 3
    kept = shards[0].stat().st_mtime_ns
    shards[1].unlink()
    again = discover(resumed, scenes, encoder=ENCODER)
    assert shards[0].stat().st_mtime_ns == kept
    assert again["values"] == whole["values"]

    values, chance = whole["value"], {key: each["chance"] for key, each in whole["values"].items()}
    names = ("abo_i", "abo_c", "recovery", "corloc")
    assert set(values) == {name + suffix for name in names for suffix in ("", "_k3", "_k6")}
    assert values["corloc"] == values["corloc_k3"]
    assert all(0 <= value <= 1 for value in [*values.values(), *chance.values()])
    assert values["abo_i"] >= max(values["abo_i_k3"], values["abo_i_k6"])
    assert values["abo_c"] >= values["abo_i"] - 0.2
    assert whole["settings"]["objects"] == len(scenes.labels)
    assert whole["settings"]["depth"] == "conv4"
    assert again["metrics"]["abo_i"] == values["abo_i"]


def test_what_a_network_discovers_is_kept_as_masks(scenes: Catalog, discovered: Path, tmp_path: Path) -> None:
    masks = Masks(discovered)
    assert (len(masks), masks.layers) == (SCENES, ["k3", "k6"])
    assert [len(np.unique(masks.labels(2, layer))) for layer in (0, 1)] == [3, 6]
    assert discover(tmp_path, scenes, masks=discovered)["value"] == outcome_of(discovered)["value"]
    with Image.open(discovered / "clusters.png") as sheet:
        assert len(sheet.getcolors(maxcolors=2**24)) > 1000


def test_the_labelled_masks_and_boxes_are_perfect(scenes: Catalog, tmp_path: Path) -> None:
    masks = make_masks(tmp_path / "masks", scenes, "ground_truth")
    assert discover(tmp_path / "of_masks", scenes, masks=masks)["value"] == dict.fromkeys(
        ("abo_i", "abo_c", "recovery", "corloc"), 1
    ) | {"abo_c": pytest.approx(1, abs=0.35)}  # two objects of one class are no single mask
    labels = scenes.labels
    boxes = [labels.loc[labels["image"] == image, ["x0", "y0", "x1", "y1"]].to_numpy(int) for image in range(SCENES)]
    found = discover(tmp_path / "of_boxes", scenes, regions=write_boxes(tmp_path / "boxes", boxes))["value"]
    assert (found["box_abo"], found["box_recovery"], found["corloc"]) == (1, 1, 1)
    assert found["box_abo_first_100"] == 1


def test_label_maps_of_stage_3_have_a_figure_a_layer(scenes: Catalog, tmp_path: Path) -> None:
    masks = make_masks(tmp_path / "masks", scenes, "grid", cells=[2, 4])
    found = discover(tmp_path / "of_masks", scenes, masks=masks)
    assert found["value"]["abo_i"] >= max(found["value"]["abo_i_grid_2"], found["value"]["abo_i_grid_4"]) > 0
    assert "corloc_grid_2" in found["value"]
    assert "of all masks together" in found["notes"][0]


def test_discovery_measures_one_source_with_labels(scenes: Catalog, photo_catalog: Catalog, tmp_path: Path) -> None:
    for source in ({}, {"encoder": ENCODER, "masks": tmp_path}):
        with pytest.raises(ValueError, match="exactly one of encoder, masks and regions"):
            discover(tmp_path / "none", scenes, **source)
    with pytest.raises(ValueError, match="has no labels"):
        discover(tmp_path / "unlabelled", photo_catalog, encoder=ENCODER)
    with pytest.raises(ValueError, match=r"depth='layer4' is no map of this network. It has conv1, conv2, conv3"):
        discover(tmp_path / "depth", scenes, encoder=ENCODER, depth="layer4")
    other = write_boxes(tmp_path / "boxes", [np.array([[0, 0, 9, 9]])])
    with pytest.raises(ValueError, match="boxes of 1 photos where the catalog has 8"):
        discover(tmp_path / "other", scenes, regions=other)


def test_a_finer_map_is_shown_smaller_photos() -> None:
    network = PhotoMaps(open_backbone(**ENCODER), "conv1", 32, 16, "cpu")
    assert network.shown_size((640, 480)) == (32, 24)  # cells of two pixels
    assert network.shown_size((30, 600)) == (2, 32)
    assert network(torch.zeros((1, 3, 24, 32), dtype=torch.uint8)).shape == (32, 12, 16)


@pytest.mark.slow
def test_objects_of_voc_are_compared_by_boxes(voc_catalogs: tuple[Catalog, Catalog], tmp_path: Path) -> None:
    found = discover(tmp_path / "out", voc_catalogs[1], encoder=ENCODER)
    assert {key.partition("_k")[0] for key in found["value"]} == {"box_abo", "box_recovery", "corloc"}
    assert 0.1 < found["value"]["box_abo"] < 0.6


@pytest.mark.slow
def test_coco_is_discovered_end_to_end(shared_data: Path, tmp_path: Path) -> None:
    from stages.data import indexing

    root, catalog = shared_data / "coco", tmp_path / "catalog"
    catalog.mkdir()
    indexing.run(
        out=catalog, report=Report(), format="coco", root=root / "val2017",
        annotations=root / "annotations" / "instances_val2017.json", split=None, list_file=None, min_side=32,
        max_rejected=0.0, workers=1,
    )  # fmt: skip
    encoder = ENCODER | {"backbone": "resnet10t"}
    found = discover(tmp_path / "out", Catalog(catalog, root / "val2017"), encoder=encoder, clusters=[4, 16], cells=8)
    assert found["settings"]["photos"] == 100
    assert 0.03 < found["value"]["abo_i"] < found["value"]["abo_c"] < 0.5
    assert best_overlap.load(sorted((tmp_path / "out/scratch/discovery").iterdir()))[0].counts.sum() > 900
