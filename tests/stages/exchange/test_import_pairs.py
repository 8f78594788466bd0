"""An official file of correspondence as our artifacts, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.data.catalog import Catalog
from stages.data.policies import ImageViews, OrlViews
from stages.exchange import neighbors, pairs, regions
from stages.exchange.export import export
from stages.report import Report

# Of a, b, c, d.
NEIGHBORS = [[3, 2], [2, 3], [0, 3], [1, 0]]

PAIR = "[[[80, 10, 40, 40, 5, 5, 50, 90]]"
LAST = "[[[5, 5, 50, 90, 0, 0, 60, 50]], [[5, 5, 50, 90, 30, 30, 40, 60]]]"


def import_all(photos: Catalog, file: Path, out: Path, count: int = 2) -> dict[str, Path]:
    """The three artifacts that a file of correspondence stands for."""
    common = {"catalog": photos.directory, "root": photos.root, "file": file}
    made = {name: out / name for name in ("retrieval", "regions", "correspondence")}
    for path in made.values():
        path.mkdir(parents=True)
    neighbors.run(out=made["retrieval"], report=Report(), neighbors=count, **common)
    regions.run(out=made["regions"], report=Report(), order=file, filters=None, **common)
    given = {name: made[name] for name in ("retrieval", "regions")}
    pairs.run(out=made["correspondence"], report=Report(), gallery_images=3, **given, **common)
    return made


def test_pairs_of_boxes(four_photos: Catalog, official: dict[str, Path], tmp_path: Path):
    made = import_all(four_photos, official["correspondence"], tmp_path / "made")
    table = pd.read_parquet(made["correspondence"] / "pairs.parquet")
    # a 0, b 1, c 2, d 3; rows of a: with d, then with c.
    found = table[["image", "neighbor", "rank", "pair", "roi", "neighbor_roi"]].to_numpy().tolist()
    assert found == [
        [0, 3, 0, 0, 0, 0],
        [0, 2, 1, 0, 0, 1],
        [1, 2, 0, 0, 0, 0],
        [1, 3, 1, 0, 0, 1],
        [2, 0, 0, 0, 0, 0],
        [2, 0, 0, 1, 1, 0],
        [2, 3, 1, 0, 1, 2],
        [3, 1, 0, 0, 2, 0],
        [3, 0, 1, 0, 1, 0],
    ]
    assert table["similarity"].isna().all()
    assert table.loc[6, ["x0", "y0", "x1", "y1"]].tolist() == [20, 20, 120, 100]
    assert table.loc[6, ["neighbor_x0", "neighbor_y0", "neighbor_x1", "neighbor_y1"]].tolist() == [80, 10, 120, 50]
    for name in ("gallery.html", "preview.png"):
        assert (made["correspondence"] / name).stat().st_size > 1000


def test_fewer_neighbors_than_the_file_has(four_photos: Catalog, official: dict[str, Path], tmp_path: Path):
    made = import_all(four_photos, official["correspondence"], tmp_path / "made", count=1)
    table = pd.read_parquet(made["correspondence"] / "pairs.parquet")
    assert table["neighbor"].tolist() == [3, 2, 0, 0, 1]
    assert (table["rank"] == 0).all()


def test_there_and_back(four_photos: Catalog, official: dict[str, Path], tmp_path: Path):
    made = import_all(four_photos, official["correspondence"], tmp_path / "made")
    settings = {"min_side": 20, "max_aspect": 3.0, "max_iou": 0.5, "max_boxes": 10, "fraction": 0.1}
    *_, file = export(tmp_path / "out", photos=four_photos, **made, **settings)
    again = import_all(four_photos, file, tmp_path / "again")
    for artifact, names in (
        ("regions", ("boxes.parquet",)),
        ("retrieval", ("neighbors.parquet",)),
        ("correspondence", ("pairs.parquet",)),
    ):
        for name in names:
            pd.testing.assert_frame_equal(
                pd.read_parquet(made[artifact] / name), pd.read_parquet(again[artifact] / name)
            )
    for name in ("pair_rois.npy", "pair_starts.npy", "pair_neighbors.npy"):
        np.testing.assert_array_equal(*(np.load(each["correspondence"] / name) for each in (made, again)))
    # What was exported, put back into the order of the official file, is that file.
    numbers = [2, 0, 3, 1]
    first, second = (json.loads(path.read_text())["pseudo_annotations"] for path in (official["correspondence"], file))
    for name in ("bbox", "knn_bbox_pair"):
        assert first[name] == [second[name][number] for number in numbers]


def test_training_draws_from_imported_pairs(four_photos: Catalog, official: dict[str, Path], tmp_path: Path):
    made = import_all(four_photos, official["correspondence"], tmp_path / "made")
    whole = ImageViews(four_photos.sizes, size=32)
    views = OrlViews(whole, made["regions"], made["correspondence"], patch_size=16)
    for image in range(len(four_photos)):
        plan = views.plan(np.random.default_rng(0), image)
        assert {view.image for view in plan.values()} <= {image, *NEIGHBORS[image]}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (PAIR, PAIR.replace("40, 40", "40, 41"), r"pair\[2\]\[0\]: the box \[80, 10, 40, 41\]"),
        (PAIR, PAIR.replace("90", "91"), "is none of those that the file lists"),
        (PAIR, PAIR.replace(", 90", ""), "not a list of rows of 8"),
        (LAST, "[[], []]", "has no pair at all"),
        (LAST, "[[]]", "for each of the 2 neighbours"),
        (f",\n        {LAST}", "", "differ in length"),
        ("]]]]}}", "", "cut off"),
    ],
)  # fmt: skip
def test_wrong_pairs(four_photos: Catalog, official: dict[str, Path], tmp_path: Path, old: str, new: str, message: str):
    made = import_all(four_photos, official["correspondence"], tmp_path / "made")
    text = official["correspondence"].read_text()
    assert old in text
    official["correspondence"].write_text(text.replace(old, new))
    (tmp_path / "wrong").mkdir()
    with pytest.raises(ValueError, match=message):
        pairs.run(
            out=tmp_path / "wrong", report=Report(), catalog=four_photos.directory, root=four_photos.root,
            retrieval=made["retrieval"], regions=made["regions"], file=official["correspondence"], gallery_images=3,
        )  # fmt: skip
