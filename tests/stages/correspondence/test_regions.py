"""The regions step: boxes of real photos, in original pixels, the same whatever happened on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.correspondence import regions as step
from stages.correspondence.filter import filter_boxes, iou
from stages.correspondence.proposals.selective_search import propose
from stages.correspondence.regions import to_original
from stages.data import indexing
from stages.data.catalog import Catalog
from stages.report import Report

FindRegions = Callable[..., Report]


def test_table_holds_what_the_contract_says(regions: Path, photo_catalog: Catalog) -> None:
    table = pd.read_parquet(regions / "boxes.parquet")
    assert table.dtypes.astype(str).to_dict() == {
        "image": "int32", "roi": "int16", "x0": "int32", "y0": "int32", "x1": "int32", "y1": "int32",
        "score": "float32",
    }  # fmt: skip
    assert sorted(set(table["image"])) == list(range(len(photo_catalog)))
    assert table["image"].is_monotonic_increasing
    assert (table["roi"] == table.groupby("image").cumcount()).all()
    sizes = photo_catalog.sizes[table["image"]]
    assert (table[["x0", "y0"]].to_numpy() >= 0).all()
    assert (table[["x1", "y1"]].to_numpy() <= sizes).all()
    assert (table[["x0", "y0"]].to_numpy() < table[["x1", "y1"]].to_numpy()).all()


def test_boxes_are_those_of_the_filter_on_the_smaller_copy(regions: Path, photo_catalog: Catalog) -> None:
    """The whole step by hand for one photo: 256 pixels wide, searched at 160."""
    photo = photo_catalog.decode(2)
    scale = 160 / max(photo.size)
    small = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BILINEAR)
    rng = np.random.default_rng([0, int(photo_catalog.images["sha256"][2], 16)])
    boxes, scores = propose(np.asarray(small), "fast", rng)
    kept = filter_boxes(boxes, min_side=24, max_aspect=3.0, max_iou=0.5, max_boxes=100)
    table = pd.read_parquet(regions / "boxes.parquet").query("image == 2")
    np.testing.assert_array_equal(table["score"], scores[kept])
    shrunk = table[["x0", "y0", "x1", "y1"]].to_numpy() * scale
    np.testing.assert_allclose(shrunk, boxes[kept], atol=1.01)


def test_same_bytes_for_any_number_of_workers(
    tmp_path: Path, find_regions: FindRegions, regions: Path, photo_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_SHARD", 3)
    find_regions(tmp_path, photo_catalog, workers=2)
    assert (tmp_path / "boxes.parquet").read_bytes() == (regions / "boxes.parquet").read_bytes()


def test_resumes_after_an_interruption(
    tmp_path: Path, find_regions: FindRegions, regions: Path, photo_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_SHARD", 2)
    find_regions(tmp_path, photo_catalog)
    shards = sorted((tmp_path / "scratch").glob("*.parquet"))
    assert len(shards) == 4
    shards[1].unlink()
    shards[2].write_bytes(shards[2].read_bytes()[:-40])
    untouched = [shards[0].stat().st_mtime_ns, shards[3].stat().st_mtime_ns]
    (tmp_path / "boxes.parquet").write_bytes(b"half")

    searched: list[int] = []
    real = step._regions

    def counted(search: step._Search, image: int, *rest: Any) -> Any:
        searched.append(image)
        return real(search, image, *rest)

    monkeypatch.setattr(step, "_regions", counted)
    find_regions(tmp_path, photo_catalog)
    assert searched == [2, 3, 4, 5]
    assert [shards[0].stat().st_mtime_ns, shards[3].stat().st_mtime_ns] == untouched
    assert (tmp_path / "boxes.parquet").read_bytes() == (regions / "boxes.parquet").read_bytes()


def test_another_seed_orders_anew(
    tmp_path: Path, find_regions: FindRegions, regions: Path, photo_catalog: Catalog
) -> None:
    find_regions(tmp_path, photo_catalog, seed=1)
    first, second = (pd.read_parquet(folder / "boxes.parquet") for folder in (regions, tmp_path))
    assert not first.equals(second)


def test_order_depends_on_content_not_on_place(
    tmp_path: Path, find_regions: FindRegions, regions: Path, photo_catalog: Catalog
) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(photo_catalog.path(5), tmp_path / "photos" / "alone.jpg")
    catalog = index(tmp_path)
    find_regions(tmp_path / "out", catalog)
    columns = ["roi", "x0", "y0", "x1", "y1", "score"]
    alone = pd.read_parquet(tmp_path / "out" / "boxes.parquet")[columns]
    among_others = pd.read_parquet(regions / "boxes.parquet").query("image == 5")[columns]
    pd.testing.assert_frame_equal(alone, among_others.reset_index(drop=True))


def test_the_whole_photo_stands_in_where_nothing_passes(
    tmp_path: Path, find_regions: FindRegions, photo_catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    report = find_regions(tmp_path, photo_catalog, min_side=1000)
    table = pd.read_parquet(tmp_path / "boxes.parquet")
    assert table[["x1", "y1"]].to_numpy().tolist() == photo_catalog.sizes.tolist()
    assert (table[["x0", "y0"]] == 0).all(axis=None)
    assert table["score"].isna().all()
    assert report.metrics["fallback_images"] == len(photo_catalog)
    assert "regions.min_side" in caplog.text


def test_metrics(tmp_path: Path, find_regions: FindRegions, photo_catalog: Catalog) -> None:
    report = find_regions(tmp_path, photo_catalog, max_boxes=5)
    counts = pd.read_parquet(tmp_path / "boxes.parquet").groupby("image").size()
    assert report.metrics["boxes"] == counts.sum()
    assert report.metrics["boxes_per_image_mean"] == counts.mean()
    assert report.metrics["boxes_per_image_max"] == counts.max() == 5
    assert report.metrics["fallback_images"] == 0
    assert report.metrics["proposals_per_image_mean"] > 20
    assert report.metrics["seconds_per_image"] > 0


def test_grey_and_tiny_photos(tmp_path: Path, find_regions: FindRegions) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("L", (64, 48), 128).save(tmp_path / "photos" / "grey.png")
    Image.new("RGB", (33, 400), "red").save(tmp_path / "photos" / "thin.png")
    catalog = index(tmp_path)
    report = find_regions(tmp_path / "out", catalog, max_side=None, min_side=32)
    table = pd.read_parquet(tmp_path / "out" / "boxes.parquet")
    assert table[["x0", "y0", "x1", "y1"]].to_numpy().tolist() == [[0, 0, 64, 48], [0, 0, 33, 400]]
    assert table["score"].isna().tolist() == [False, True]  # 33 x 400 is too thin for the filter
    assert report.metrics["fallback_images"] == 1


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.data())
def test_rounding_outward_covers_the_box_and_stays_inside(
    width: int, height: int, max_side: int, data: st.DataObject
) -> None:
    scale = min(1.0, max_side / max(width, height))
    searched = (max(1, round(width * scale)), max(1, round(height * scale)))
    x0, y0 = (data.draw(st.integers(0, side - 1)) for side in searched)
    x1, y1 = data.draw(st.integers(x0 + 1, searched[0])), data.draw(st.integers(y0 + 1, searched[1]))
    (box,) = to_original(np.array([[x0, y0, x1, y1]]), searched, (width, height)).tolist()
    ratios = np.tile([width, height], 2) / np.tile(searched, 2)
    exact = np.array([x0, y0, x1, y1]) * ratios
    for corner, original, limit, sign in zip(box, exact, (width, height) * 2, (1, 1, -1, -1), strict=True):
        assert 0 <= corner <= limit
        assert -1e-9 <= sign * (original - corner) < 1
    if searched == (width, height):
        assert box == [x0, y0, x1, y1]


def test_most_labelled_objects_are_found(tmp_path: Path, shared_data: Path) -> None:
    """Recall on COCO: of the larger objects, most have a proposal that overlaps by more than half."""
    root = shared_data / "coco"
    (tmp_path / "catalog").mkdir()
    indexing.run(
        out=tmp_path / "catalog", report=Report(), format="coco", root=root / "val2017",
        annotations=root / "annotations" / "instances_val2017.json", split=None, list_file=None, min_side=32,
        max_rejected=0.1, workers=1,
    )  # fmt: skip
    catalog = Catalog(tmp_path / "catalog", root / "val2017")
    best = []
    for image in range(6):
        photo = catalog.decode(image)
        scale = 256 / max(photo.size)
        small = photo.resize((round(photo.width * scale), round(photo.height * scale)))
        boxes, _ = propose(np.asarray(small), "fast", np.random.default_rng(0))
        objects = catalog.labels.query("image == @image")[["x0", "y0", "x1", "y1"]].to_numpy() * scale
        large = objects[(objects[:, 2:] - objects[:, :2]).min(axis=1) > 40]
        best += [iou(thing, boxes).max() for thing in large]
    assert len(best) >= 5
    assert np.mean(np.array(best) > 0.5) > 0.8


def index(folder: Path) -> Catalog:
    (folder / "catalog").mkdir()
    indexing.run(
        out=folder / "catalog", report=Report(), format="folder", root=folder / "photos", annotations=None, split=None,
        list_file=None, min_side=16, max_rejected=0, workers=1,
    )  # fmt: skip
    return Catalog(folder / "catalog", folder / "photos")
