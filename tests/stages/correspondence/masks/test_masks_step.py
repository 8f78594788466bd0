"""The masks step from a catalog to files, for each method, on real photos; and interrupted half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import felzenszwalb

from stages.correspondence import masks as step
from stages.correspondence.masks.outlines import mask_of
from stages.data import indexing
from stages.data.catalog import Catalog
from stages.data.masks import Masks
from stages.data.unreadable import UnreadablePhoto
from stages.report import Report
from stages.shards import LocalEngine

FELZENSZWALB = {"scales": (100, 300), "sigma": 0.8, "min_size": None, "max_pixels": 4_000_000}
FILES = ("masks.bin", "index.npy", "masks.json")

Segment = Callable[..., tuple[Masks, dict[str, Any]]]


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    """Runs the step: (catalog, method, its options)."""

    def run(catalog: Catalog, method: str, out: Path = tmp_path, workers: int = 1, **options: Any) -> Any:
        report = Report()
        step.run(
            out=out, report=report, catalog=catalog.directory, root=catalog.root, method=method, options=options,
            device="cpu", workers=workers, engine=LocalEngine(workers),
        )  # fmt: skip
        return Masks(out), report.metrics

    return run


def index(out: Path, root: Path, **source: Any) -> Catalog:
    settings: dict[str, Any] = {"format": "folder", "annotations": None, "split": None, "list_file": None}
    out.mkdir()
    indexing.run(out=out, report=Report(), root=root, min_side=1, max_rejected=0.5, workers=1, **settings | source)
    return Catalog(out, root)


@pytest.fixture(scope="session")
def coco(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    root, out = shared_data / "coco", tmp_path_factory.mktemp("coco") / "catalog"
    annotations = root / "annotations" / "instances_val2017.json"
    return index(out, root / "val2017", format="coco", annotations=annotations)


def test_felzenszwalb_at_full_resolution(photo_catalog: Catalog, segment: Segment) -> None:
    masks, metrics = segment(photo_catalog, "felzenszwalb", **FELZENSZWALB)
    masks.check(len(photo_catalog))
    assert (masks.kind, masks.layers) == ("labels", ["scale_100", "scale_300"])
    for image in (7, 0):
        photo = photo_catalog.pixels(image)
        for layer, scale in enumerate((100, 300)):
            labels = masks.labels(image, layer)
            assert labels.dtype == np.uint16
            np.testing.assert_array_equal(labels, felzenszwalb(photo, scale=scale, min_size=scale))
    regions = [masks.labels(image, 1).max() + 1 for image in range(len(masks))]
    assert metrics["regions_per_image_scale_300"] == np.mean(regions)
    assert metrics["bytes_per_image"] == (masks.directory / "masks.bin").stat().st_size / len(photo_catalog)
    assert metrics["fallback_images"] == 0
    assert not any("abo" in name for name in metrics)


def test_grids_need_no_photo_and_few_bytes(photo_catalog: Catalog, segment: Segment) -> None:
    masks, metrics = segment(photo_catalog, "grid", cells=(1, 5))
    width, height = photo_catalog.sizes[3].tolist()
    labels = masks.labels(3, 1)
    assert labels.shape == (height, width)
    areas = np.bincount(labels.reshape(-1))
    assert len(areas) == 25
    assert areas.max() <= (height // 5 + 1) * (width // 5 + 1)
    assert metrics["bytes_per_image"] < 150
    assert metrics["fallback_images"] == len(photo_catalog)  # 1 x 1 is the whole photo
    with pytest.raises(ValueError, match="1 to 256"):
        segment(photo_catalog, "grid", cells=(300,))


def test_superpixels(photo_catalog: Catalog, segment: Segment) -> None:
    masks, metrics = segment(photo_catalog, "slic", segments=(30,), compactness=10.0, max_pixels=20_000)
    assert masks.layers == ["segments_30"]
    assert 10 < metrics["regions_per_image_segments_30"] < 60
    assert masks.labels(0, 0).shape == tuple(photo_catalog.sizes[0][::-1])


def test_ground_truth_of_coco(coco: Catalog, segment: Segment) -> None:
    masks, metrics = segment(coco, "ground_truth")
    assert (masks.kind, masks.layers) == ("stack", [])
    masks.check(len(coco))
    labels = coco.labels
    crowds = labels.index[labels["crowd"]]
    for image in {0, int(labels.loc[crowds[0], "image"])}:
        size = tuple(coco.sizes[image].tolist())
        objects = [mask_of(json.loads(text), size) for text in labels.loc[labels["image"] == image, "segmentation"]]
        objects = [mask for mask in objects if mask.any()]
        stack, scores = masks.stack(image), masks.scores(image)
        assert sorted(mask.tobytes() for mask in stack) == sorted(mask.tobytes() for mask in objects)
        np.testing.assert_allclose(scores, stack.mean(axis=(1, 2)), rtol=1e-6)
        assert (np.diff(scores) <= 0).all()
    unlabelled = set(range(len(coco))) - set(labels["image"])
    assert metrics["fallback_images"] == len(unlabelled)
    for image in unlabelled:
        assert masks.stack(image).all()
        assert np.isnan(masks.scores(image)).all()


def test_ground_truth_needs_masks_not_boxes(
    photo_catalog: Catalog, shared_data: Path, tmp_path: Path, segment: Segment
) -> None:
    with pytest.raises(ValueError, match="has no labels"):
        segment(photo_catalog, "ground_truth")
    voc = shared_data / "VOCdevkit" / "VOC2007"
    names = (voc / "ImageSets" / "Main" / "test.txt").read_text().split()[:3]
    small = tmp_path / "VOC2007"
    for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        (small / folder).mkdir(parents=True)
        for name in names:
            (small / folder / f"{name}{suffix}").write_bytes((voc / folder / f"{name}{suffix}").read_bytes())
    (small / "ImageSets" / "Main").mkdir(parents=True)
    (small / "ImageSets" / "Main" / "test.txt").write_text("\n".join(names))
    catalog = index(tmp_path / "catalog", small, format="voc", split="test")
    with pytest.raises(ValueError, match="has boxes, but no masks"):
        segment(catalog, "ground_truth")
    _, metrics = segment(catalog, "grid", cells=(2, 3))
    assert 0 < metrics["box_abo_grid_2"] <= metrics["box_abo"] < 1
    assert "mask_abo" not in metrics


def test_quality_is_measured_against_masks_of_objects(coco: Catalog, segment: Segment, tmp_path: Path) -> None:
    _, fine = segment(coco, "grid", cells=(1, 10))
    clear = ~coco.labels["crowd"]
    assert 0 < fine["mask_objects"] <= clear.sum()
    assert 0 < fine["mask_abo_grid_1"] < fine["mask_abo_grid_10"] < fine["mask_abo"] < 0.5
    assert fine["class_mask_abo"] > fine["mask_abo"]


def test_odd_photos(tmp_path: Path, segment: Segment) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    pictures = {
        "a_black": np.zeros((50, 60, 3), np.uint8),
        "b_noise": noise,
        "c_column": noise[:, :1],
        "d_row": noise[:1],
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(photos / f"{name}.png")
    catalog = index(tmp_path / "catalog", photos)
    for method, options in (
        ("felzenszwalb", FELZENSZWALB),
        ("grid", {"cells": (5,)}),
        ("slic", {"segments": (100,), "compactness": 10.0, "max_pixels": 10_000}),
    ):
        out = tmp_path / method
        out.mkdir()
        masks, metrics = segment(catalog, method, out, **options)
        for image, pixels in enumerate(pictures.values()):
            assert masks.labels(image, 0).shape == pixels.shape[:2]
        if method == "felzenszwalb":
            assert metrics["fallback_images"] >= 1
            assert masks.labels(0, 0).max() == 0


def test_a_panorama_is_segmented_in_a_small_copy(tmp_path: Path, segment: Segment) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    x = np.linspace(0, 40, 20_000)
    line = np.stack([np.sin(x), np.cos(x), np.sin(3 * x)], axis=1) * 100 + 120
    Image.fromarray(np.tile(line.astype(np.uint8), (400, 1, 1))).save(photos / "panorama.jpg")
    catalog = index(tmp_path / "catalog", photos)
    masks, metrics = segment(catalog, "felzenszwalb", **FELZENSZWALB | {"max_pixels": 100_000})
    assert masks.labels(0, 0).shape == (400, 20_000)
    assert metrics["bytes_per_image"] < 50_000


def test_a_photo_that_has_changed_is_told(photo_catalog: Catalog, tmp_path: Path, segment: Segment) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "photo.png")
    (tmp_path / "masks").mkdir()
    catalog = index(tmp_path / "catalog", tmp_path)
    Image.new("RGB", (40, 50)).save(tmp_path / "photo.png")
    with pytest.raises(UnreadablePhoto, match="promises"):
        segment(catalog, "felzenszwalb", tmp_path / "masks", **FELZENSZWALB)
    with pytest.raises(ValueError, match="not known"):
        segment(photo_catalog, "watershed")


def test_workers_do_not_change_the_result(photo_catalog: Catalog, tmp_path: Path, segment: Segment) -> None:
    for workers in (1, 2):
        out = tmp_path / str(workers)
        out.mkdir()
        segment(photo_catalog, "felzenszwalb", out, workers, **FELZENSZWALB)
    for name in FILES:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


RUN = """
    import sys, time
    from pathlib import Path
    from stages.correspondence.masks import step
    from stages.report import Report
    from stages.shards import LocalEngine

    class Slow(Report):
        def progress(self, done, total, unit="images", **figures):
            time.sleep(60 if done >= 4 else 0)  # to be killed in

    out, catalog, root = map(Path, sys.argv[1:])
    step._SMALLEST_SHARD = 2
    step.run(out=out, report=Slow(), catalog=catalog, root=root, method="felzenszwalb", device="cpu", workers=1,
             options=dict(scales=(100, 300), sigma=0.8, min_size=None, max_pixels=4_000_000), engine=LocalEngine(1))
"""


def test_a_killed_run_goes_on_where_it_was(
    photo_catalog: Catalog, tmp_path: Path, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    program = [
        sys.executable,
        "-c",
        textwrap.dedent(RUN),
        str(out),
        str(photo_catalog.directory),
        str(photo_catalog.root),
    ]
    process = subprocess.Popen(program)
    try:
        deadline = time.monotonic() + 120
        while len(list(out.glob("scratch/*.npz"))) < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("scratch/*.npz")}
    assert len(done) == 2
    assert not (out / "index.npy").exists()
    monkeypatch.setattr(step.step, "_SMALLEST_SHARD", 2)
    segment(photo_catalog, "felzenszwalb", out, **FELZENSZWALB)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    (tmp_path / "whole").mkdir()
    segment(photo_catalog, "felzenszwalb", tmp_path / "whole", **FELZENSZWALB)
    for name in FILES:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
