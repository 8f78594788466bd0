"""The regions step: boxes of real photos, in original pixels, the same whatever happened on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.correspondence import regions as step
from stages.correspondence.filter import filter_boxes
from stages.correspondence.proposals.opencv_selective_search import make
from stages.correspondence.saliency import mean_saliency, saliency_map
from stages.data import indexing
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog
from stages.data.unreadable import UnreadablePhoto
from stages.report import Report

FindRegions = Callable[..., Report]
FILES = ("boxes.parquet", "corners.npy", "starts.npy")
CORNERS = ["x0", "y0", "x1", "y1"]
GRID = {"proposals": "grid", "options": {"cells": (1, 2, 3)}}


def same(first: Path, second: Path) -> bool:
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in FILES)


def test_table_holds_what_the_contract_says(regions: Path, photo_catalog: Catalog) -> None:
    table = pd.read_parquet(regions / "boxes.parquet")
    assert sorted(set(table["image"])) == list(range(len(photo_catalog)))
    assert table["image"].is_monotonic_increasing
    sizes = photo_catalog.sizes[table["image"]]
    corners = table[CORNERS].to_numpy()
    assert (corners[:, :2] >= 0).all()
    assert (corners[:, 2:] <= sizes).all()
    assert (corners[:, :2] < corners[:, 2:]).all()
    boxes = Boxes(regions)
    boxes.check(len(photo_catalog))
    np.testing.assert_array_equal(boxes.corners, corners)


def test_boxes_are_those_of_the_filter_on_the_smaller_copy(regions: Path, photo_catalog: Catalog) -> None:
    """The whole step by hand for one photo: 256 pixels wide, searched at 160."""
    photo = photo_catalog.decode(2)
    scale = 160 / max(photo.size)
    small = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BILINEAR)
    rng = np.random.default_rng([0, int(photo_catalog.sha256(2), 16)])
    boxes, scores = make(mode="fast")(np.asarray(small), 2, rng)
    kept = filter_boxes(boxes, min_side=24, max_aspect=3.0, max_iou=0.5, max_boxes=100)
    table = pd.read_parquet(regions / "boxes.parquet").query("image == 2")
    np.testing.assert_array_equal(table["score"], scores[kept])
    shrunk = table[CORNERS].to_numpy() * scale
    np.testing.assert_allclose(shrunk, boxes[kept], atol=1.01)


def test_same_bytes_for_any_number_of_workers(
    tmp_path: Path, find_regions: FindRegions, regions: Path, photo_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_SMALLEST_SHARD", 3)
    find_regions(tmp_path, photo_catalog, workers=2)
    assert len(list((tmp_path / "scratch").iterdir())) == 3
    assert same(tmp_path, regions)


def test_resumes_after_an_interruption(
    tmp_path: Path, find_regions: FindRegions, regions: Path, photo_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_SMALLEST_SHARD", 2)
    find_regions(tmp_path, photo_catalog)
    shards = sorted((tmp_path / "scratch").iterdir())
    assert len(shards) == 4
    shards[1].unlink()
    (tmp_path / "boxes.parquet").write_bytes(b"half")

    searched: list[int] = []
    real = step._regions

    def counted(search: Any, catalog: Any, propose: Any, image: int) -> Any:
        searched.append(image)
        return real(search, catalog, propose, image)

    monkeypatch.setattr(step, "_regions", counted)
    find_regions(tmp_path, photo_catalog)
    assert searched == [2, 3]
    assert same(tmp_path, regions)


def test_a_damaged_shard_is_named(tmp_path: Path, find_regions: FindRegions, photo_catalog: Catalog) -> None:
    find_regions(tmp_path, photo_catalog, **GRID)
    (shard,) = (tmp_path / "scratch").iterdir()
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(ValueError, match=rf"{shard.name} is damaged.*Delete that file and run again"):
        find_regions(tmp_path, photo_catalog, **GRID)


def test_another_seed_orders_anew(
    tmp_path: Path, find_regions: FindRegions, regions: Path, photo_catalog: Catalog
) -> None:
    find_regions(tmp_path, photo_catalog, seed=1)
    assert not same(tmp_path, regions)


def test_order_depends_on_content_not_on_place(
    tmp_path: Path, find_regions: FindRegions, regions: Path, photo_catalog: Catalog
) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(photo_catalog.path(5), tmp_path / "photos" / "alone.jpg")
    find_regions(tmp_path / "out", index(tmp_path))
    columns = ["roi", *CORNERS, "score"]
    alone = pd.read_parquet(tmp_path / "out" / "boxes.parquet")[columns]
    among_others = pd.read_parquet(regions / "boxes.parquet").query("image == 5")[columns]
    pd.testing.assert_frame_equal(alone, among_others.reset_index(drop=True))


def test_the_whole_photo_stands_in_where_nothing_passes(
    tmp_path: Path, find_regions: FindRegions, photo_catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    for number, nothing in enumerate(({"min_side": 1000}, {"min_side": 100, "max_boxes": 1, "max_aspect": 1.0})):
        out = tmp_path / str(number)
        report = find_regions(out, photo_catalog, proposals="random", **nothing,
                              options={"count": 3, "scale": (0.01, 0.02), "ratio": (0.5, 0.9)})  # fmt: skip
        boxes = Boxes(out)
        assert boxes.corners[:, 2:].tolist() == photo_catalog.sizes.tolist()
        assert not boxes.corners[:, :2].any()
        assert pd.read_parquet(out / "boxes.parquet")["score"].isna().all()
        assert report.metrics["fallback_images"] == len(photo_catalog)
        assert "regions.min_side" in caplog.text


def test_metrics(tmp_path: Path, find_regions: FindRegions, photo_catalog: Catalog) -> None:
    report = find_regions(tmp_path, photo_catalog, max_boxes=5)
    counts = np.diff(Boxes(tmp_path).starts)
    assert report.metrics["boxes"] == counts.sum()
    assert report.metrics["boxes_per_image_mean"] == counts.mean()
    assert report.metrics["boxes_per_image_min"] == counts.min()
    assert report.metrics["boxes_per_image_max"] == counts.max() == 5
    assert report.metrics["fallback_images"] == 0
    assert report.metrics["proposals_per_image_mean"] > 20
    assert report.metrics["seconds_per_image"] > 0
    assert "recall_all" not in report.metrics  # these photos have no labels


def test_only_salient_boxes_stay(tmp_path: Path, find_regions: FindRegions, photo_catalog: Catalog) -> None:
    """A grid of 3 x 3 without any other filter, and with the saliency of the boxes computed here."""
    loose = {"max_side": None, "min_side": 1, "max_aspect": 100.0, "max_iou": 1.0}
    find_regions(tmp_path / "all", photo_catalog, **GRID, **loose)
    find_regions(tmp_path / "salient", photo_catalog, **GRID, **loose, min_saliency=0.1)
    everything, salient = Boxes(tmp_path / "all"), Boxes(tmp_path / "salient")
    dropped = 0
    for image in range(len(photo_catalog)):
        boxes = everything.of(image)
        kept = mean_saliency(saliency_map(np.asarray(photo_catalog.decode(image))), boxes) >= 0.1
        np.testing.assert_array_equal(salient.of(image), boxes[kept])
        dropped += int((~kept).sum())
    assert dropped > 10


def test_a_photo_that_has_changed_stops_the_step(
    tmp_path: Path, find_regions: FindRegions, photo_catalog: Catalog
) -> None:
    shutil.copytree(photo_catalog.root, tmp_path / "photos")
    catalog = Catalog(photo_catalog.directory, tmp_path / "photos")
    path = catalog.path(3)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UnreadablePhoto, match=rf"{path.name}.*no longer can: truncated"):
        find_regions(tmp_path / "out", catalog, **GRID)


def test_grey_black_noisy_and_tiny_photos(tmp_path: Path, find_regions: FindRegions) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("L", (64, 48), 128).save(tmp_path / "photos" / "0_grey.png")
    Image.new("RGB", (33, 400), "red").save(tmp_path / "photos" / "1_thin.png")
    Image.new("RGB", (50, 50)).save(tmp_path / "photos" / "2_black.png")
    Image.new("RGB", (1, 300), "blue").save(tmp_path / "photos" / "3_line.png")
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photos" / "4_noise.png")
    catalog = index(tmp_path)
    report = find_regions(tmp_path / "out", catalog, max_side=None, min_side=32)
    boxes = Boxes(tmp_path / "out")
    whole = [[0, 0, *size] for size in catalog.sizes.tolist()]
    assert [boxes.of(image).tolist() for image in range(4)] == [[box] for box in whole[:4]]
    assert len(boxes.of(4)) >= 1
    # 33 x 400 is too thin for the filter, and 1 x 300 too small for any box.
    assert report.metrics["fallback_images"] == 2


def test_labelled_objects_are_found(tmp_path: Path, find_regions: FindRegions, shared_data: Path) -> None:
    """COCO: the metrics are there, and OpenCV's boxes find more than as many random ones."""
    catalog = coco(tmp_path, shared_data, photos=12)
    searched = {"max_side": 256, "min_side": 16, "max_boxes": 500}
    found = find_regions(tmp_path / "found", catalog, **searched).metrics
    assert 0.2 < found["recall_100"] <= found["recall_500"] == found["recall_all"] < 1
    assert 0.3 < found["abo_100"] <= found["abo_500"] == found["abo_all"] < 1
    assert found["labelled_objects"] == (~catalog.labels["crowd"]).sum() > 40
    options = {"count": int(found["boxes_per_image_mean"]), "scale": (0.01, 0.8), "ratio": (0.5, 2.0)}
    guessed = find_regions(tmp_path / "guessed", catalog, proposals="random", options=options, max_side=None).metrics
    assert found["recall_all"] > guessed["recall_all"] + 0.1
    assert found["abo_all"] > guessed["abo_all"] + 0.1


def test_ground_truth_finds_all(tmp_path: Path, find_regions: FindRegions, shared_data: Path) -> None:
    catalog = coco(tmp_path, shared_data, photos=12)
    loose = {"max_side": None, "min_side": 1, "max_aspect": 1000.0, "max_iou": 1.0}
    found = find_regions(tmp_path / "out", catalog, proposals="ground_truth", options={}, **loose).metrics
    assert found["recall_all"] > 0.97  # of objects of a pixel or two, rounding outward makes something else
    assert found["abo_all"] > 0.9


def test_missing_labels_are_said(tmp_path: Path, find_regions: FindRegions, photo_catalog: Catalog) -> None:
    with pytest.raises(ValueError, match=r"regions\.proposals=ground_truth needs labels.*COCO or VOC"):
        find_regions(tmp_path, photo_catalog, proposals="ground_truth", options={})


def index(folder: Path, **settings: Any) -> Catalog:
    (folder / "catalog").mkdir()
    given: dict[str, Any] = {"format": "folder", "root": folder / "photos", "annotations": None} | settings
    indexing.run(
        out=folder / "catalog", report=Report(), split=None, list_file=None, min_side=1, max_rejected=0, workers=1,
        **given,
    )  # fmt: skip
    return Catalog(folder / "catalog", given["root"])


def coco(folder: Path, shared_data: Path, photos: int) -> Catalog:
    """The first photos of COCO, with their labels."""
    content = json.loads((shared_data / "coco" / "annotations" / "instances_val2017.json").read_text())
    content["images"] = content["images"][:photos]
    (folder / "instances.json").write_text(json.dumps(content))
    return index(folder, format="coco", root=shared_data / "coco" / "val2017", annotations=folder / "instances.json")
