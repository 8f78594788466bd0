"""Open Images: which photos the rule of the object-aware cropping paper takes, and their boxes in pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.data.formats import Listing, Source, openimages, read_listing
from stages.report import Report

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"

Row = tuple[str, str]


def write_boxes(path: Path, rows: list[Row], header: str = HEADER) -> Path:
    lines = [f"{image},xclick,{label},1,0.25,0.75,0.5,1,0,0,{number % 2},0,-1" for number, (image, label) in
             enumerate(rows)]  # fmt: skip
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Listing]:
    def listing(rows: list[Row], **settings: Any) -> Listing:
        source = Source("openimages", tmp_path, write_boxes(tmp_path / "boxes.csv", rows), **settings)
        return read_listing(source, tmp_path)

    return listing


def chosen_by_hand(rows: list[Row], min_classes: int, min_images: int) -> tuple[list[str], list[str]]:
    """The paper's rule word by word, in plain Python."""
    classes_of: dict[str, set[str]] = {}
    for image, label in rows:
        classes_of.setdefault(image, set()).add(label)
    varied = {image: classes for image, classes in classes_of.items() if len(classes) >= min_classes}
    labels = {label for _, label in rows}
    kept = {label for label in labels if sum(label in classes for classes in varied.values()) >= min_images}
    return sorted(image for image, classes in varied.items() if classes & kept), sorted(kept)


@pytest.mark.parametrize(("min_classes", "min_images"), [(1, 1), (2, 1), (2, 9), (3, 12), (1, 30)])
def test_subset_of_the_paper(listed: Callable[..., Listing], min_classes: int, min_images: int) -> None:
    rng = np.random.default_rng(min_images)
    popular = np.minimum(rng.geometric(0.15, 300), 40)
    rows = [
        (f"{image:016x}", f"/m/{label:02d}") for image, label in zip(rng.integers(0, 120, 300), popular, strict=True)
    ]
    images, labels = chosen_by_hand(rows, min_classes, min_images)
    assert images
    listing = listed(rows, min_classes=min_classes, min_images_per_class=min_images)
    assert list(listing.paths) == [f"{image}.jpg" for image in images]
    found = listing.read_labels()
    assert found.categories == labels
    expected = [(images.index(image), label) for image, label in rows if image in images and label in labels]
    assert [(image, found.categories[number]) for image, number in
            found.objects[["image", "category"]].to_numpy()] == expected  # fmt: skip


def test_photos_are_found_in_the_folders_of_the_shards(tmp_path: Path, listed: Callable[..., Listing]) -> None:
    for name in ("train_b/a.jpg", "train_a/b.jpg", "again/b.jpg", "c.png", "train_a/unboxed.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(listed([("b", "/m/1"), ("a", "/m/1"), ("c", "/m/1")]).paths) == [
        "train_b/a.jpg",
        "again/b.jpg",
        "c.jpg",
    ]


def test_catalog_in_pixels_with_names(tmp_path: Path) -> None:
    Image.new("RGB", (80, 40)).save(tmp_path / "a.jpg")
    Image.new("RGB", (100, 200)).save(tmp_path / "b.jpg")
    boxes = write_boxes(tmp_path / "boxes.csv", [("b", "/m/2"), ("a", "/m/1"), ("gone", "/m/3"), ("a", "/m/2")])
    (tmp_path / "names.csv").write_text('LabelName,DisplayName\n/m/1,"Fish, boiled"\n/m/2,Bat\n/m/3,Bat\n')
    report = Report()
    indexing.run(out=tmp_path, report=report, format="openimages", root=tmp_path, annotations=boxes, workers=1,
                 class_names=tmp_path / "names.csv", min_side=32, max_rejected=0.5)  # fmt: skip
    catalog = Catalog(tmp_path, tmp_path)
    assert catalog.images["path"].tolist() == ["a.jpg", "b.jpg"]
    assert report.metrics["rejected_by_kind"] == {"missing": 1}
    assert catalog.categories == ["Fish, boiled", "Bat (/m/2)", "Bat (/m/3)"]
    assert catalog.labels.drop(columns="segmentation").to_numpy().tolist() == [
        [0, 0, 20, 20, 60, 40, False, True],
        [0, 1, 20, 20, 60, 40, False, True],
        [1, 1, 25, 100, 75, 200, False, False],
    ]
    assert catalog.labels["segmentation"].isna().all()


def test_what_cannot_be_used_says_so(tmp_path: Path, listed: Callable[..., Listing]) -> None:
    with pytest.raises(ValueError, match="holds no boxes"):
        listed([])
    source = Source("openimages", tmp_path, write_boxes(tmp_path / "x.csv", [("a", "/m/1")], "ImageID,LabelName"))
    with pytest.raises(ValueError, match=r"x.csv is no table of boxes .*columns ImageID, LabelName, IsGroupOf, XMin"):
        read_listing(source, tmp_path)
    with pytest.raises(ValueError, match=r"outside dataset\.root"):
        listed([("../../etc/passwd", "/m/1")])
    (tmp_path / "names.csv").write_text("/m/1,Fish\n")
    with pytest.raises(ValueError, match="no name for the class /m/2"):
        listed([("a", "/m/2")], class_names=tmp_path / "names.csv").read_labels()


def test_a_plan_parses_the_boxes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a", "/m/1"), ("b", "/m/1"), ("b", "/m/2")]
    boxes = write_boxes(tmp_path / "boxes.csv", rows)
    parsed = []
    read = openimages._batches

    def counting(*args: Any) -> Any:
        parsed.append(args)
        return read(*args)

    monkeypatch.setattr(openimages, "_batches", counting)

    def digest(**settings: Any) -> str:
        return indexing.fingerprint(cache=tmp_path / "cache" / "hashes.npy", workers=1, format="openimages",
                                    root=tmp_path, annotations=boxes, **settings)  # fmt: skip

    digests = [digest(), digest(), digest(min_classes=2), digest(min_classes=2)]
    assert len(parsed) == 2
    assert digests[0] == digests[1] != digests[2] == digests[3]
    write_boxes(boxes, [*rows, ("c", "/m/1")])
    assert digest() != digests[0]
    assert len(parsed) == 3
    for listing in (tmp_path / "cache" / "listings").iterdir():
        listing.write_bytes(b"damaged")
    write_boxes(boxes, rows)
    assert digest(min_classes=2) == digests[2]
