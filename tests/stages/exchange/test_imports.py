"""Official neighbours and boxes as our artifacts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.data.boxes import Boxes
from stages.data.catalog import Catalog
from stages.exchange import neighbors, regions
from stages.report import Report

FILTERS = {"min_side": 20, "max_aspect": 3.0, "max_iou": 0.5, "max_boxes": 10}


def import_neighbors(catalog: Catalog, file: Path, out: Path, count: int = 2) -> Report:
    report = Report()
    neighbors.run(
        out=out, report=report, catalog=catalog.directory, root=catalog.root, file=file, neighbors=count
    )  # fmt: skip
    return report


def import_regions(catalog: Catalog, file: Path, order: Path, out: Path, filters: dict[str, float] | None) -> Report:
    report = Report()
    regions.run(
        out=out, report=report, catalog=catalog.directory, root=catalog.root, file=file, order=order, filters=filters
    )  # fmt: skip
    return report


def test_neighbors_are_photos_of_the_catalog(four_photos: Catalog, official: dict[str, Path], tmp_path: Path):
    report = import_neighbors(four_photos, official["neighbors"], tmp_path)
    table = pd.read_parquet(tmp_path / "neighbors.parquet")
    # Places c, a, d, b: c's are places 1 and 2, a and d, and so on.
    assert table["neighbor"].tolist() == [3, 2, 2, 3, 0, 3, 1, 0]
    assert table["image"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["rank"].tolist() == [0, 1] * 4
    assert table["similarity"].isna().all()
    assert table.dtypes.astype(str).tolist() == ["int32", "int16", "int32", "float32"]
    assert report.metrics["own_neighbors"] == 0


def test_the_nearest_of_more_neighbors(four_photos: Catalog, official: dict[str, Path], tmp_path: Path):
    import_neighbors(four_photos, official["correspondence"], tmp_path, count=1)
    assert pd.read_parquet(tmp_path / "neighbors.parquet")["neighbor"].tolist() == [3, 2, 0, 1]
    with pytest.raises(ValueError, match=r"holds 2 neighbours where 3 are wanted\. Set retrieval\.neighbors"):
        import_neighbors(four_photos, official["neighbors"], tmp_path, count=3)


def test_proposals_pass_the_filter(four_photos: Catalog, official: dict[str, Path], tmp_path: Path):
    report = import_regions(four_photos, official["proposals"], official["neighbors"], tmp_path, FILTERS)
    boxes = Boxes(tmp_path)
    assert boxes.of(0).tolist() == [[10, 5, 50, 45]]
    assert boxes.of(1).tolist() == [[0, 0, 120, 100]]  # nothing passed: the whole photo
    assert boxes.of(2).tolist() == [[0, 0, 60, 50], [20, 20, 120, 100]]
    assert boxes.of(3).tolist() == [[0, 0, 120, 100], [30, 30, 70, 90], [80, 10, 120, 50]]
    table = pd.read_parquet(tmp_path / "boxes.parquet")
    assert table["image"].tolist() == [0, 1, 2, 2, 3, 3, 3]
    np.testing.assert_array_equal(table["score"], [0, np.nan, 0, -3, 0, -1, -2])
    assert report.metrics == {
        "boxes": 7, "boxes_per_image_mean": 7 / 4, "proposals_per_image_mean": 9 / 4, "fallback_images": 1
    }  # fmt: skip


def test_boxes_of_a_correspondence_are_taken_as_they_are(
    four_photos: Catalog, official: dict[str, Path], tmp_path: Path
):
    file = official["correspondence"]
    import_regions(four_photos, file, file, tmp_path, None)
    boxes = Boxes(tmp_path)
    boxes.check(4)
    assert boxes.of(2).tolist() == [[0, 0, 60, 50], [20, 20, 120, 100]]
    assert [len(boxes.of(image)) for image in range(4)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[30, 30, 40, 60]", "[30, 30, 40, 71]", r"bbox\[2\]: the box \[30, 30, 40, 71\].*120 x 100"),
        ("[30, 30, 40, 60]", "[-1, 30, 40, 60]", "is not inside its photo"),
        ("[30, 30, 40, 60]", "[30, 30, 0, 60]", "is not inside its photo"),
        ("[30, 30, 40, 60]", "[4611686018427387904, 30, 4611686018427387904, 60]", "is not inside its photo"),
        ("[30, 30, 40, 60]", "[30, 30, 40]", "lists of whole numbers"),
        ("[30, 30, 40, 60]", "[30, 30, 40, 60.5]", "lists of whole numbers"),
        ("[30, 30, 40, 60]", '[30, 30, 40, "60"]', "lists of whole numbers"),
        ("[30, 30, 40, 60]", "null", "lists of whole numbers"),
        ("[30, 30, 40, 60]", "[30, 30, 40, 99999999999999999999]", "integer overflow"),
        ("[10, 5, 40, 40]", "[10, 5, 40, 40, 7]", "not a list of rows of 4"),
        ("[10, 5, 40, 40]", "true", "lists of whole numbers"),
        (", [[0, 0, 3, 3]]", "", r"has 3 entries for 4 photos"),
        ("[[0, 0, 3, 3]]", "[[0, 0, 3, 3]], [[0, 0, 3, 3]]", r"has 5 entries for 4 photos"),
        ("bbox", "boxes", r"has 0 entries for 4 photos\. Either it is another kind of file"),
        ("]]]}", "", "cut off"),
    ],
)
def test_wrong_proposals(
    four_photos: Catalog, official: dict[str, Path], tmp_path: Path, old: str, new: str, message: str
):
    text = official["proposals"].read_text()
    assert old in text
    official["proposals"].write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        import_regions(four_photos, official["proposals"], official["neighbors"], tmp_path, FILTERS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[3, 1]", "[3, 4]", r"knn_image_id\[2\] refers to place 4, but the lists have 4 places"),
        ("[3, 1]", "[-1, 3]", "refers to place -1"),
        ("[3, 1]", "[3]", "holds 1 neighbours where 2 are wanted"),
        ("[3, 1]", "3", "lists of whole numbers"),
        (", [3, 1]", "", "has 3 entries for 4 photos"),
        ("knn_image_id", "nearest", "has 0 entries for 4 photos"),
    ],
)
def test_wrong_neighbors(
    four_photos: Catalog, official: dict[str, Path], tmp_path: Path, old: str, new: str, message: str
):
    text = official["neighbors"].read_text()
    official["neighbors"].write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        import_neighbors(four_photos, official["neighbors"], tmp_path)
