"""From a detector to a table: a detector that knows colours finds all squares, at whatever size it is shown them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from stages.data.catalog import Catalog
from stages.evaluation.metrics.coco_ap import coco_ap
from stages.evaluation.metrics.voc_ap import voc_ap
from stages.evaluation.tasks.detection.inference import detect_photos, read_detections
from stages.evaluation.tasks.detection.lvis import read_federation
from stages.report import Report


class ColourDetector(nn.Module):
    """Calls what is far more red than blue a red square, and the reverse a blue one."""

    def __init__(self) -> None:
        super().__init__()
        self.margin = nn.Parameter(torch.tensor(90.0))
        self.seen = 0

    def detect(self, pixels: Tensor) -> dict[str, Tensor]:
        self.seen += 1
        redness = pixels[0].float() - pixels[2].float()
        boxes, labels = [], []
        for label, sign in enumerate((1, -1)):
            rows, columns = torch.nonzero(sign * redness > self.margin, as_tuple=True)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                labels.append(label)
        return {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.linspace(0.9, 0.5, len(labels)),
            "masks": torch.ones(len(labels), 1, 28, 28),
        }


def found_in(catalog: Catalog, out: Path, detector: Any, **changed: Any) -> pd.DataFrame:
    out.mkdir(exist_ok=True)
    settings = {"short_side": 48, "longest": 100, "masks": True, "workers": 0} | changed
    return read_detections(detect_photos(detector, catalog, out=out, report=Report(), **settings))


@pytest.mark.parametrize("short_side", [48, 96])
def test_what_is_found_lies_where_it_is_in_the_photo(squares: Catalog, tmp_path: Path, short_side: int) -> None:
    table = found_in(squares, tmp_path, ColourDetector(), short_side=short_side, longest=200)

    truth = squares.labels
    assert list(table) == ["image", "category", "score", "x0", "y0", "x1", "y1", "mask"]
    objects = truth[~truth["crowd"]]
    assert len(table) == len(objects) == 14
    assert np.abs(table[["x0", "y0", "x1", "y1"]].to_numpy() - objects[["x0", "y0", "x1", "y1"]].to_numpy()).max() <= 1
    for kind, least in (("boxes", 0.85), ("masks", 0.85)):
        assert coco_ap(truth, table, squares.sizes, 2, kind=kind).figures["ap"] > least  # type: ignore[arg-type]
    assert voc_ap(truth, table, 2, rule="area")[:, 0].tolist() == [1, 1]


def test_an_interrupted_call_goes_on_where_it_was(squares: Catalog, tmp_path: Path) -> None:
    whole = found_in(squares, tmp_path / "whole", ColourDetector())
    (shard,) = (tmp_path / "whole" / "scratch" / "detections").glob("*.parquet")

    again = ColourDetector()
    (tmp_path / "whole" / "detections.parquet").unlink()  # stopped while it was put together
    assert found_in(squares, tmp_path / "whole", again).equals(whole)
    assert again.seen == 0

    (tmp_path / "whole" / "detections.parquet").unlink()
    shard.unlink()
    assert found_in(squares, tmp_path / "whole", again).equals(whole)
    assert again.seen == 8


def test_photos_without_detections_leave_an_empty_table(squares: Catalog, tmp_path: Path) -> None:
    blind = ColourDetector()
    blind.margin.data.fill_(1000)
    table = found_in(squares, tmp_path, blind)
    assert len(table) == 0
    assert coco_ap(squares.labels, table, squares.sizes, 2, kind="masks").figures["ap"] == 0


def lvis_file(squares: Catalog, path: Path, **first: Any) -> Path:
    images: list[dict[str, Any]] = [
        {"id": i, "coco_url": f"http://images.cocodataset.org/val2017/{i:03d}.png", "neg_category_ids": [],
         "not_exhaustive_category_ids": []} for i in range(len(squares) + 1)
    ]  # fmt: skip
    images[0] |= first
    categories = [{"id": 2, "name": "blue", "frequency": "r"}, {"id": 1, "name": "red", "frequency": "f"}]
    path.write_text(pd.Series({"images": images, "categories": categories}).to_json())
    return path


def test_lvis_says_where_was_looked(squares: Catalog, tmp_path: Path) -> None:
    file = lvis_file(squares, tmp_path / "lvis.json", neg_category_ids=[2], not_exhaustive_category_ids=[1])
    federation = read_federation(file, squares)

    assert federation.absent == {1: {0}}
    assert federation.incomplete == {0: {0}}
    assert federation.frequency == ["f", "r"]


def test_files_of_other_data_sets_are_no_lvis(squares: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs `frequency`"):
        read_federation(squares.directory.parent / "instances.json", squares)
    with pytest.raises(ValueError, match="photo 0 has no `neg_category_ids`"):
        read_federation(lvis_file(squares, tmp_path / "lvis.json", neg_category_ids=None), squares)
