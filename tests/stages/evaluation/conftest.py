"""Labelled catalogs for the tests of evaluation: tables alone, and a few real photos."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.report import Report

# image, category, x0, y0, x1, y1, difficult, crowd
Row = tuple[int, int, int, int, int, int, bool, bool]
MakeCatalog = Callable[..., Catalog]


@pytest.fixture
def make_catalog(tmp_path: Path, write_catalog: Callable[[Path, pd.DataFrame], None]) -> MakeCatalog:
    """Makes a catalog of `images` photos of 100 x 100 pixels that don't exist, with the given objects."""

    def make(name: str, images: int, rows: list[Row], categories: tuple[str, ...] = ("cat", "dog")) -> Catalog:
        directory = tmp_path / name
        directory.mkdir()
        names = [f"{i}.jpg" for i in range(images)]
        write_catalog(directory, pd.DataFrame({"path": names, "width": 100, "height": 100}))
        columns = ["image", "category", "x0", "y0", "x1", "y1", "difficult", "crowd"]
        objects = pd.DataFrame(rows, columns=columns).astype({"image": "int32", "category": "int32"})
        objects.to_parquet(directory / "labels.parquet")
        (directory / "categories.json").write_text(json.dumps(categories))
        return Catalog(directory, tmp_path)

    return make


@pytest.fixture(scope="session")
def voc_catalogs(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Catalog]:
    """40 photos of VOC2007 trainval and 24 of its test set, with their labels."""
    source = shared_data / "VOCdevkit" / "VOC2007"
    root = tmp_path_factory.mktemp("voc") / "VOC2007"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).symlink_to(source / folder)
    catalogs = []
    for split, number in (("trainval", 40), ("test", 24)):
        names = (source / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:number]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
        out = tmp_path_factory.mktemp(f"catalog_{split}")
        indexing.run(
            out=out, report=Report(), format="voc", root=root, annotations=None, split=split, list_file=None,
            min_side=32, max_rejected=0.0, workers=1,
        )  # fmt: skip
        catalogs.append(Catalog(out, root))
    return catalogs[0], catalogs[1]
