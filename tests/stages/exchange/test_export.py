"""Our artifacts as official files, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.data.boxes import Boxes, BoxesWriter
from stages.data.catalog import Catalog
from stages.exchange import neighbors, regions
from stages.exchange.export import export
from stages.report import Report

SETTINGS = {"min_side": 20, "max_aspect": 3.0, "max_iou": 0.5, "max_boxes": 10, "fraction": 0.1}
INFO = {"bbox_min_size": 20, "bbox_max_aspect_ratio": 3.0, "bbox_max_iou": 0.5, "intra_bbox_num": 10,
        "knn_image_num": 2, "knn_bbox_pair_ratio": 0.1}  # fmt: skip

NEIGHBORS = [[3, 2], [2, 3], [0, 3], [1, 0]]
BOXES = [
    [[10, 5, 50, 45]],
    [[5, 5, 55, 95], [0, 0, 120, 100]],
    [[0, 0, 60, 50], [20, 20, 120, 100]],
    [[80, 10, 120, 50]],
]
# photo: (rank, roi, neighbor_roi)
PAIRS = {0: [(0, 0, 0), (1, 0, 1)], 1: [(0, 1, 0), (0, 0, 1), (1, 0, 0)], 2: [(0, 0, 0)], 3: [(0, 0, 1), (1, 0, 0)]}


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Path]:
    """Artifacts of four photos, as the steps write them."""
    paths = {name: tmp_path / name for name in ("retrieval", "regions", "correspondence")}
    for path in paths.values():
        path.mkdir()
    rows = [(image, rank, other, 0.5) for image, found in enumerate(NEIGHBORS) for rank, other in enumerate(found)]
    pd.DataFrame(rows, columns=["image", "rank", "neighbor", "similarity"]).to_parquet(
        paths["retrieval"] / "neighbors.parquet"
    )
    with BoxesWriter(paths["regions"]) as writer:
        for each in BOXES:
            writer.append(np.array([len(each)]), np.array(each), np.zeros(len(each), np.float32))
    rows = []
    for image, pairs in PAIRS.items():
        for rank, roi, other_roi in pairs:
            other = NEIGHBORS[image][rank]
            rows.append((image, rank, *BOXES[image][roi], *BOXES[other][other_roi]))
    corners = ["x0", "y0", "x1", "y1"]
    columns = ["image", "rank", *corners, *(f"neighbor_{corner}" for corner in corners)]
    pd.DataFrame(rows, columns=columns).to_parquet(paths["correspondence"] / "pairs.parquet")
    return paths


def exported(photos: Catalog, made: dict[str, Path], out: Path) -> list[Path]:
    return export(out, photos=photos, **made, **SETTINGS)


def test_the_official_files(four_photos: Catalog, made: dict[str, Path], tmp_path: Path):
    paths = exported(four_photos, made, tmp_path / "out")
    assert [path.name for path in paths] == ["2nn_instance.json", "selective_search.json", "correspondence.json"]
    knn, boxes, pairs = (json.loads(path.read_text()) for path in paths)
    images = {"file_name": [f"train/{name}.jpg" for name in "abcd"], "id": [0, 1, 2, 3]}
    assert knn == {
        "info": {"knn_image_num": 2},
        "images": images,
        "pseudo_annotations": {"image_id": [0, 1, 2, 3], "knn_image_id": NEIGHBORS},
    }
    sized = [
        [[10, 5, 40, 40]],
        [[5, 5, 50, 90], [0, 0, 120, 100]],
        [[0, 0, 60, 50], [20, 20, 100, 80]],
        [[80, 10, 40, 40]],
    ]
    assert boxes == {"bbox": sized}
    assert pairs == {
        "info": INFO,
        "images": images,
        "pseudo_annotations": {
            "image_id": [0, 1, 2, 3],
            "bbox": sized,
            "knn_image_id": NEIGHBORS,
            "knn_bbox_pair": [
                [[[10, 5, 40, 40, 80, 10, 40, 40]], [[10, 5, 40, 40, 20, 20, 100, 80]]],
                [
                    [[0, 0, 120, 100, 0, 0, 60, 50], [5, 5, 50, 90, 20, 20, 100, 80]],
                    [[5, 5, 50, 90, 80, 10, 40, 40]],
                ],
                [[[0, 0, 60, 50, 10, 5, 40, 40]], []],
                [[[80, 10, 40, 40, 0, 0, 120, 100]], [[80, 10, 40, 40, 10, 5, 40, 40]]],
            ],
        },
    }


def test_photos_without_pairs_are_counted(
    four_photos: Catalog, made: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    exported(four_photos, made, tmp_path / "out")
    assert "1 of 8 photos and neighbours have no pair" in caplog.text


def test_there_and_back(four_photos: Catalog, made: dict[str, Path], tmp_path: Path):
    knn, proposals, _ = exported(four_photos, made, tmp_path / "out")
    common = {"report": Report(), "catalog": four_photos.directory, "root": four_photos.root}
    filters = {"min_side": 1, "max_aspect": 100.0, "max_iou": 1.0, "max_boxes": 100}
    for name in ("neighbors", "boxes"):
        (tmp_path / name).mkdir()
    neighbors.run(out=tmp_path / "neighbors", file=knn, neighbors=2, **common)
    regions.run(out=tmp_path / "boxes", file=proposals, order=knn, filters=filters, **common)
    table, former = (
        pd.read_parquet(path / "neighbors.parquet") for path in (tmp_path / "neighbors", made["retrieval"])
    )
    for column in ("image", "rank", "neighbor"):
        assert table[column].tolist() == former[column].tolist()
    boxes, former_boxes = Boxes(tmp_path / "boxes"), Boxes(made["regions"])
    np.testing.assert_array_equal(boxes.corners, former_boxes.corners)
    np.testing.assert_array_equal(boxes.starts, former_boxes.starts)


def test_ids_are_the_numbers_in_names(make_catalog, made: dict[str, Path], tmp_path: Path):
    photos = make_catalog("000000000009.jpg", "000000000025.jpg", "000000000030.jpg", "000000580000.jpg")
    knn = json.loads(exported(photos, made, tmp_path / "out")[0].read_text())
    assert knn["images"]["id"] == knn["pseudo_annotations"]["image_id"] == [9, 25, 30, 580000]


def test_artifacts_of_other_photos(make_catalog, made: dict[str, Path], tmp_path: Path):
    photos = make_catalog("1.jpg", "2.jpg", "3.jpg")
    with pytest.raises(ValueError, match="boxes of 4 photos where the catalog has 3"):
        exported(photos, made, tmp_path / "out")
    assert not (tmp_path / "out").exists()
