"""The catalog step and the digest of a data set."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from stages.data import inspection
from stages.data.catalog import Catalog
from stages.data.decode import Rejection
from stages.data.indexing import fingerprint, run
from stages.report import Report

NOTHING: dict[str, Any] = {"annotations": None, "split": None, "list_file": None}


def _index(out: Path, root: Path, **changes) -> tuple[Catalog, Report]:
    out.mkdir(exist_ok=True)
    report = Report()
    settings: dict[str, Any] = (
        {"format": "folder", "min_side": 32, "max_rejected": 0.5, "workers": 1} | NOTHING | changes
    )
    run(out=out, report=report, root=root, **settings)
    return Catalog(out, root), report


def _digest(root: Path, **changes) -> str:
    settings: dict[str, Any] = {"format": "folder", "cache": None, "workers": 2} | NOTHING | changes
    return fingerprint(root=root, **settings)


@pytest.fixture
def mixed(tmp_path: Path, photos_dir: Path) -> Path:
    """The eight photos, an exact copy of one, and four files that cannot be used."""
    root = tmp_path / "mixed"
    shutil.copytree(photos_dir, root)
    coffee = root / "first" / "coffee.jpg"
    shutil.copy(coffee, root / "first" / "again.jpg")
    (root / "broken").mkdir()
    (root / "broken" / "cut.jpg").write_bytes(coffee.read_bytes()[:5000])
    (root / "broken" / "empty.jpg").touch()
    (root / "broken" / "words.jpg").write_text("words")
    Image.new("RGB", (20, 400)).save(root / "broken" / "small.png")
    (root / "README.txt").touch()
    return root


# ---- catalog ----------------------------------------------------------------------------------------------------


def test_catalog_of_a_mixed_folder(tmp_path: Path, mixed: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        catalog, report = _index(tmp_path / "catalog", mixed)
    assert report.metrics == {
        "images": 9,
        "rejected": 4,
        "rejected_by_kind": {"empty": 1, "not an image": 1, "too small": 1, "truncated": 1},
        "duplicates": 1,
        "ignored_files": 1,
    }
    types = catalog.images.dtypes.astype(str).to_dict()
    assert {name: types[name] for name in ("image", "width", "height", "bytes")} == {
        "image": "int32", "width": "int32", "height": "int32", "bytes": "int64"
    }  # fmt: skip
    assert catalog.images["image"].tolist() == list(range(9))
    assert catalog.images["path"].tolist() == sorted(catalog.images["path"])
    for image in range(9):
        assert catalog.decode(image).size == tuple(catalog.sizes[image])
        assert catalog.images["bytes"][image] == catalog.path(image).stat().st_size
    rejected = pd.read_parquet(tmp_path / "catalog" / "rejected.parquet")
    assert rejected["path"].tolist() == [
        f"broken/{name}" for name in ("cut.jpg", "empty.jpg", "small.png", "words.jpg")
    ]
    assert rejected["reason"][1] == "empty: zero bytes"
    assert "4 of 13 images" in caplog.text
    assert not catalog.has_labels


def test_workers_change_no_byte(tmp_path: Path, mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.data.inspection._SMALLEST", 3)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    _index(tmp_path / "one", mixed, workers=1)
    _index(tmp_path / "two", mixed, workers=2)
    for name in ("images.parquet", "rejected.parquet", "paths.npy", "sizes.npy", "sha256.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_interrupted_run_goes_on(tmp_path: Path, mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.data.inspection._SMALLEST", 3)
    looked_at: list[str] = []
    look = inspection.read

    def failing(path: Path) -> bytes | Rejection:
        looked_at.append(path.name)
        if len(looked_at) == 8:
            raise KeyboardInterrupt
        return look(path)

    monkeypatch.setattr(inspection, "read", failing)
    with pytest.raises(KeyboardInterrupt):
        _index(tmp_path / "out", mixed)
    catalog, _ = _index(tmp_path / "out", mixed)
    assert len(looked_at) == 8 + 13 - 6, "two shards of three were whole"
    whole, _ = _index(tmp_path / "whole", mixed)
    assert catalog.images.equals(whole.images)


def test_progress_reaches_the_total(tmp_path: Path, photos_dir: Path) -> None:
    seen = []

    class Recorder(Report):
        def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
            seen.append((done, total, unit))

    run(
        out=tmp_path,
        report=Recorder(),
        root=photos_dir,
        format="folder",
        min_side=32,
        max_rejected=0,
        workers=1,
        **NOTHING,
    )
    assert seen[-1] == (8, 8, "images")


def test_too_many_rejected(tmp_path: Path, mixed: Path) -> None:
    with pytest.raises(
        ValueError, match=r"(?s)4 of 13 .*30\.8%; at most 30\.0%.*empty: zero bytes.*raise dataset.max_r"
    ):
        _index(tmp_path / "catalog", mixed, max_rejected=0.3)


def test_nothing_left(tmp_path: Path, mixed: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)4 of 4 .* nothing is left.*broken|cut\.jpg"):
        _index(tmp_path / "catalog", mixed / "broken", max_rejected=1.0)


def test_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for name in ("a.heic", "b.HEIC", "c.txt"):
        (tmp_path / "root" / name).touch()
    with pytest.raises(ValueError, match=r"no images in dataset.root=.*\.jpg .*other kinds: 2 \.heic, 1 \.txt\. Set"):
        _index(tmp_path / "catalog", tmp_path / "root")
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match=r"list\.txt of dataset.root=.* names none"):
        _index(tmp_path / "catalog", tmp_path / "root", format="list_file", list_file=tmp_path / "list.txt")


def test_listed_but_missing_files_are_rejected(tmp_path: Path, photos_dir: Path) -> None:
    (tmp_path / "list.txt").write_text("first/coffee.jpg\nfirst/gone.jpg\n")
    catalog, report = _index(tmp_path / "catalog", photos_dir, format="list_file", list_file=tmp_path / "list.txt")
    assert catalog.images["path"].tolist() == ["first/coffee.jpg"]
    assert report.metrics["rejected_by_kind"] == {"missing": 1}


# ---- labels -----------------------------------------------------------------------------------------------------


def test_labels_are_renumbered_clipped_and_dropped(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("b.png", "c.png"):
        Image.new("RGB", (60, 50)).save(root / name)
    boxes: dict[int, list] = {  # image id -> boxes as COCO writes them
        1: [[0, 0, 10, 10]],
        2: [[-5, 10, 30, 100], [10, 10, 0, 5], [60, 0, 5, 5]],
        3: [[1.25, 2.5, 3.5, 4.25], [0, 0, float("nan"), 4]],
    }
    content = {
        "images": [
            {"id": 3, "file_name": "c.png", "width": 60, "height": 50},
            {"id": 1, "file_name": "gone.png", "width": 60, "height": 50},
            {"id": 2, "file_name": "b.png", "width": 50, "height": 60},
        ],
        "categories": [{"id": 5, "name": "thing"}],
        "annotations": [{"image_id": i, "category_id": 5, "bbox": box} for i in boxes for box in boxes[i]],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    catalog, report = _index(tmp_path / "out", root, format="coco", annotations=tmp_path / "instances.json")
    assert catalog.images["path"].tolist() == ["c.png", "b.png"]
    assert catalog.labels[["image", "x0", "y0", "x1", "y1"]].to_numpy().tolist() == [
        [0, 1.25, 2.5, 4.75, 6.75],
        [1, 0, 10, 25, 50],
    ]
    assert catalog.categories == ["thing"]
    figures = {"objects": 2, "labelled_images": 2, "categories": 1, "degenerate_boxes": 3, "size_mismatches": 1}
    assert figures.items() <= report.metrics.items()


def test_real_coco_catalog(tmp_path: Path, shared_data: Path) -> None:
    coco = shared_data / "coco"
    catalog, report = _index(
        tmp_path / "out", coco / "val2017", format="coco", annotations=coco / "annotations" / "instances_val2017.json"
    )
    assert (len(catalog), len(catalog.labels), report.metrics["labelled_images"]) == (100, 985, 98)
    assert report.metrics["size_mismatches"] == report.metrics["degenerate_boxes"] == 0
    width, height = catalog.sizes[catalog.labels["image"]].T
    assert (catalog.labels["x1"] <= width).all()
    assert (catalog.labels["y1"] <= height).all()
    assert catalog.labels["image"].is_monotonic_increasing
    types = catalog.labels.dtypes.astype(str).to_dict()
    assert (types["image"], types["category"], types["x0"], types["crowd"]) == ("int32", "int32", "float64", "bool")


def test_real_voc_catalog_has_a_known_box(tmp_path: Path, shared_data: Path) -> None:
    """000001.jpg: the dog at xmin 39, ymin 192, xmax 156, ymax 297 of the file."""
    catalog, report = _index(
        tmp_path / "out", shared_data / "VOCdevkit" / "VOC2007", format="voc", split="trainval", max_rejected=0.0
    )
    image = catalog.images["path"].tolist().index("JPEGImages/000001.jpg")
    labels = catalog.labels[catalog.labels["image"] == image]
    dog = labels[labels["category"] == catalog.categories.index("dog")]
    assert dog[["x0", "y0", "x1", "y1"]].to_numpy().tolist() == [[38, 191, 156, 297]]
    assert report.metrics["images"] == 2000


# ---- fingerprint ------------------------------------------------------------------------------------------------


def test_fingerprint_ignores_place_and_time(tmp_path: Path, photos_dir: Path) -> None:
    before = _digest(photos_dir)
    assert len(before) == 64
    moved = tmp_path / "elsewhere" / "photos"
    shutil.copytree(photos_dir, moved)
    for path in moved.rglob("*.jpg"):
        os.utime(path, (1, 1))
    (moved / "notes.txt").write_text("not a photo")
    assert _digest(moved) == before
    assert _digest(moved, workers=1) == before


def test_fingerprint_sees_content_name_and_number(tmp_path: Path, photos_dir: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos_dir, root)
    coffee = root / "first" / "coffee.jpg"
    digests = [_digest(root)]
    coffee.rename(root / "first" / "tea.jpg")
    digests.append(_digest(root))
    (root / "first" / "tea.jpg").rename(coffee)
    assert _digest(root) == digests[0]
    content = bytearray(coffee.read_bytes())
    content[-3] ^= 1
    coffee.write_bytes(content)
    digests.append(_digest(root))
    shutil.copy(coffee, root / "another.jpg")
    digests.append(_digest(root))
    coffee.unlink()
    digests.append(_digest(root))
    assert len(set(digests)) == len(digests)


def test_fingerprint_sees_labels_and_order(tmp_path: Path, photos_dir: Path) -> None:
    def coco(category: str) -> str:
        content = {
            "images": [{"id": 1, "file_name": "first/coffee.jpg"}],
            "categories": [{"id": 5, "name": category}],
            "annotations": [{"image_id": 1, "category_id": 5, "bbox": [0, 0, 9, 9]}],
        }
        (tmp_path / "instances.json").write_text(json.dumps(content))
        return _digest(photos_dir, format="coco", annotations=tmp_path / "instances.json")

    def listed(content: str) -> str:
        (tmp_path / "list.txt").write_text(content)
        return _digest(photos_dir, format="list_file", list_file=tmp_path / "list.txt")

    assert coco("cup") == coco("cup") != coco("mug")
    forth = listed("first/coffee.jpg\nsecond/china.jpg\n")
    assert listed("# a comment\nfirst/coffee.jpg\n\nsecond/china.jpg\n") == forth
    assert listed("second/china.jpg\nfirst/coffee.jpg\n") != forth
    assert listed("first/coffee.jpg\nsecond/gone.jpg\n") != forth
