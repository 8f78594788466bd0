"""Class folders: the class is one of the whole photo."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.data.formats import Source, read_listing
from stages.report import Report


def index(out: Path, root: Path) -> tuple[Catalog, Report]:
    out.mkdir()
    report = Report()
    indexing.run(out=out, report=report, format="class_folders", root=root, min_side=32, max_rejected=0.5, workers=1)
    return Catalog(out, root), report


def test_classes_of_photos(tmp_path: Path, photos_dir: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(photos_dir / "first", root / "n02" / "deep" / "er")
    shutil.copytree(photos_dir / "second", root / "n01")
    shutil.copy(photos_dir / "first" / "coffee.jpg", root / "no_class.jpg")
    (root / "n00").mkdir()
    (root / "n00" / "broken.jpg").touch()
    catalog, report = index(tmp_path / "out", root)
    assert catalog.categories == ["n01", "n02"]
    assert catalog.classes is not None
    assert catalog.classes.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    for image, number in enumerate(catalog.classes.tolist()):
        assert catalog.name(image).startswith(catalog.categories[number] + "/")
        assert catalog.images["class"][image] == catalog.categories[number]
    assert not catalog.has_labels, "no box is known"
    assert (report.metrics["images"], report.metrics["classes"], report.metrics["ignored_files"]) == (8, 2, 1)


def test_classes_that_are_numbers_count_as_numbers(tmp_path: Path, photos_dir: Path) -> None:
    for name in ("10", "9"):
        shutil.copytree(photos_dir / "first", tmp_path / "root" / name)
    assert index(tmp_path / "out", tmp_path / "root")[0].categories == ["9", "10"]


def test_a_folder_of_photos_has_no_classes(tmp_path: Path, photos_dir: Path) -> None:
    listing = read_listing(Source("class_folders", photos_dir / "first"), photos_dir / "first")
    assert len(listing.paths) == 0
    with pytest.raises(
        ValueError, match=r"4 \(photo outside the folders of the classes\).*a folder of photos for each"
    ):
        index(tmp_path / "out", photos_dir / "first")
