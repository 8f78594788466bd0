"""Joined data sets: photos of several folders under one numbering, nothing copied."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.report import Report


def index(out: Path, roots: list[Path], parts: list[dict[str, Any]], **changes: Any) -> tuple[Catalog, Report]:
    out.mkdir()
    report = Report()
    settings = {"min_side": 32, "max_rejected": 0.5, "workers": 1} | changes
    indexing.run(out=out, report=report, format="joined", root=roots, parts=parts, **settings)
    return Catalog(out, roots), report


def coco_file(path: Path, names: list[str], categories: list[str]) -> Path:
    """One object in each photo, of the categories in turn."""
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
        "annotations": [
            {"image_id": number, "category_id": number % len(categories), "bbox": [number, 1, 10, 10]}
            for number in range(len(names))
        ],
    }
    path.write_text(json.dumps(content))
    return path


def test_labels_meet_by_the_names_of_their_categories(tmp_path: Path, photos_dir: Path) -> None:
    first, second = photos_dir / "first", photos_dir / "second"
    names = [sorted(path.name for path in folder.iterdir()) for folder in (first, second)]
    shutil.copytree(photos_dir, tmp_path / "classes")
    parts: list[dict[str, Any]] = [
        {"format": "coco", "annotations": coco_file(tmp_path / "1.json", ["gone.jpg", *names[0]], ["cat", "dog"])},
        {"format": "folder"},
        {"format": "coco", "annotations": coco_file(tmp_path / "2.json", names[1], ["bird", "dog"])},
        {"format": "class_folders"},
    ]
    roots = [first, second, second, tmp_path / "classes"]
    catalog, report = index(tmp_path / "out", roots, parts)
    assert len(catalog) == 4 + 4 + 4 + 8
    assert catalog.images["part"].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 8
    assert [catalog.path(image) for image in (0, 4, 8)] == [first / names[0][0], *[second / names[1][0]] * 2]
    assert catalog.read(12) == catalog.read(0), "the same photo in two parts"
    assert catalog.categories == ["cat", "dog", "bird", "first", "second"]
    # Photo 0 of the first part is missing, so that its objects begin with number 1.
    assert catalog.labels[["image", "category", "x0"]].to_numpy().tolist() == [
        [0, 1, 1], [1, 0, 2], [2, 1, 3], [3, 0, 4], [8, 2, 0], [9, 1, 1], [10, 2, 2], [11, 1, 3]
    ]  # fmt: skip
    assert catalog.classes is not None
    assert catalog.classes.tolist() == [-1] * 12 + [3] * 4 + [4] * 4
    assert catalog.labels_of(3, 9)["image"].tolist() == [3, 8]
    assert (report.metrics["rejected"], report.metrics["duplicates"]) == (1, 4 + 8)


def test_voc_and_coco_and_archives(tmp_path: Path, shared_data: Path) -> None:
    import tarfile

    coco, voc = shared_data / "coco", shared_data / "VOCdevkit" / "VOC2007"
    shards = tmp_path / "shards"
    shards.mkdir()
    with tarfile.open(shards / "0.tar", "w") as archive:
        for path in sorted((coco / "train2017").iterdir())[:5]:
            archive.add(path, path.name)
    # The 2000 photos of VOC would take long: a split of our own over the real ones.
    kit = tmp_path / "VOC2007"
    (kit / "ImageSets" / "Main").mkdir(parents=True)
    for folder in ("JPEGImages", "Annotations"):
        (kit / folder).symlink_to(voc / folder)
    chosen = (voc / "ImageSets" / "Main" / "trainval.txt").read_text().split()[:30]
    (kit / "ImageSets" / "Main" / "few.txt").write_text("\n".join(chosen))

    parts: list[dict[str, Any]] = [
        {"format": "voc", "split": "few"},
        {"format": "webdataset"},
        {"format": "coco", "annotations": coco / "annotations" / "instances_val2017.json"},
    ]
    roots = [kit, shards, coco / "val2017"]
    joined, _ = index(tmp_path / "joined", roots, parts)
    assert len(joined) == 30 + 5 + 100
    assert joined.read(30) == sorted((coco / "train2017").iterdir())[0].read_bytes()
    assert joined.categories[:20] == sorted(joined.categories[:20], key=str.lower), "VOC's twenty come first"
    assert len(joined.categories) == 20 + 80 - 14, "14 have the same name in both"
    for number, (part, root, first, last) in enumerate(zip(parts, roots, (0, 30, 35), (30, 35, 135), strict=True)):
        alone = tmp_path / f"alone{number}"
        alone.mkdir()
        indexing.run(out=alone, report=Report(), root=root, min_side=32, max_rejected=0, workers=1, **part)
        single = Catalog(alone, root)
        assert np.array_equal(single.sizes, joined.sizes[first:last])
        assert [single.sha256(image) for image in range(len(single))] == [
            joined.sha256(image) for image in range(first, last)
        ]
        if not single.has_labels:
            continue
        expected, found = single.labels, joined.labels_of(first, last)
        sides = ["x0", "y0", "x1", "y1", "difficult", "crowd"]
        assert expected[sides].equals(found[sides])
        assert [single.categories[number] for number in expected["category"]] == [
            joined.categories[number] for number in found["category"]
        ]
        assert (found["image"] - first).tolist() == expected["image"].tolist()


def test_the_fingerprint_sees_every_part_and_their_order(tmp_path: Path, photos_dir: Path) -> None:
    def digest(*roots: Path) -> str:
        parts = [{"format": "folder"}] * len(roots)
        return indexing.fingerprint(cache=None, workers=1, format="joined", root=list(roots), parts=parts)

    first, second = photos_dir / "first", photos_dir / "second"
    assert digest(first, second) == digest(first, second)
    assert len({digest(first, second), digest(second, first), digest(first), digest(first, first)}) == 4


def test_a_part_without_photos_is_an_error(tmp_path: Path, photos_dir: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no images in dataset\.root=.*empty"):
        index(tmp_path / "out", [photos_dir, tmp_path / "empty"], [{"format": "folder"}] * 2)


def test_roots_have_to_fit(tmp_path: Path, photos_dir: Path) -> None:
    with pytest.raises(ValueError, match="a root for each: there are 1 parts"):
        index(tmp_path / "one", [photos_dir, photos_dir], [{"format": "folder"}])
    catalog, _ = index(tmp_path / "two", [photos_dir, photos_dir], [{"format": "folder"}] * 2)
    with pytest.raises(ValueError, match=r"is of joined data sets, but its root is .*the roots of the parts in a list"):
        Catalog(catalog.directory, photos_dir)


def test_a_part_that_is_rejected_whole_needs_the_others(tmp_path: Path, photos_dir: Path) -> None:
    (tmp_path / "small").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "small" / "a.png")
    catalog, report = index(tmp_path / "out", [tmp_path / "small", photos_dir], [{"format": "folder"}] * 2)
    assert catalog.images["part"].tolist() == [1] * 8
    assert report.metrics["rejected_by_kind"] == {"too small": 1}
