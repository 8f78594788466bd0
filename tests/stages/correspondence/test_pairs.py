"""The correspondence step: the pairs that ORL's definition names, and pictures of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.correspondence import pairs as step
from stages.correspondence.pairs import most_similar
from stages.data.catalog import Catalog
from stages.report import Report


def plain_pairs(query: np.ndarray, other: np.ndarray, fraction: float) -> list[tuple[int, int, float]]:
    """S = F_q F_k^T, every entry in a list, sorted as a whole; the first max(1, int(fraction * B))."""
    entries = []
    for i, a in enumerate(query.astype(float)):
        for j, b in enumerate(other.astype(float)):
            entries.append((-sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)), i * len(other) + j))
    entries.sort()
    return [(at // len(other), at % len(other), -s) for s, at in entries[: max(1, int(fraction * len(query)))]]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.sampled_from([0.01, 0.1, 0.29, 0.5, 1.0]), st.integers(0, 2**32 - 1))
def test_most_similar_is_a_stable_sort(b: int, b_other: int, fraction: float, seed: int) -> None:
    # Few distinct values, hence many ties.
    similarity = np.random.default_rng(seed).integers(-3, 4, (b, b_other)) / 4
    rows, columns = most_similar(similarity, fraction)
    flat = np.argsort(-similarity.ravel(), kind="stable")[: max(1, int(fraction * b))]
    assert (rows * b_other + columns).tolist() == flat.tolist()


def test_ten_percent_of_a_hundred_boxes_are_ten_pairs() -> None:
    similarity = np.random.default_rng(0).random((100, 100))
    assert len(most_similar(similarity, 0.1)[0]) == 10
    assert len(most_similar(similarity[:29], 0.1)[0]) == 2
    assert len(most_similar(similarity[:1], 0.1)[0]) == 1
    assert len(most_similar(similarity[:50, :1], 1.0)[0]) == 50


class Made:
    """Artifacts as former steps would have written them, of made-up features."""

    def __init__(
        self, folder: Path, catalog: Catalog, counts: list[int], neighbors: list[list[int]], seed: int
    ) -> None:
        self.catalog, self.folder = catalog, folder
        rng = np.random.default_rng(seed)
        images = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        low = rng.integers(0, 90, (len(images), 2))
        corners = np.hstack([low, low + rng.integers(20, 60, low.shape)]).astype(np.int32)
        boxes = pd.DataFrame({"image": images, "roi": np.concatenate([np.arange(n) for n in counts]).astype(np.int16)})
        boxes[["x0", "y0", "x1", "y1"]] = corners
        boxes["score"] = np.where(np.isin(images, np.flatnonzero(np.array(counts) == 1)), np.nan, 0.5).astype(
            np.float32
        )
        boxes.to_parquet(folder / "boxes.parquet", index=False)
        rows = rng.normal(size=(len(images), 16))
        self.features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
        np.save(folder / "features.npy", self.features)
        k = len(neighbors[0])
        table = {"image": np.repeat(range(len(counts)), k), "rank": np.tile(range(k), len(counts)),
                 "neighbor": np.ravel(neighbors), "similarity": np.float32(0.5)}  # fmt: skip
        pd.DataFrame(table).to_parquet(folder / "neighbors.parquet", index=False)
        self.boxes, self.neighbors = boxes, neighbors
        self.report = Report()

    def run(self, out: Path, **changed: Any) -> pd.DataFrame:
        out.mkdir()
        arguments: dict[str, Any] = {
            "catalog": self.catalog.directory, "root": self.catalog.root, "retrieval": self.folder,
            "regions": self.folder, "roi_features": self.folder, "fraction": 0.2, "gallery_images": 3,
        }  # fmt: skip
        step.run(out=out, report=self.report, **arguments | changed)
        return pd.read_parquet(out / "pairs.parquet")


@pytest.fixture
def made(tmp_path: Path, photo_catalog: Catalog) -> Made:
    folder = tmp_path / "made"
    folder.mkdir()
    neighbors = [[(image + 1) % 8, (image + 3) % 8] for image in range(8)]
    return Made(folder, photo_catalog, [12, 1, 30, 5, 9, 1, 17, 10], neighbors, seed=0)


def test_pairs_are_those_of_the_definition(made: Made, tmp_path: Path) -> None:
    table = made.run(tmp_path / "out")
    assert table.dtypes.astype(str).to_dict() == {
        "image": "int32", "neighbor": "int32", "rank": "int16", "pair": "int16", "roi": "int16",
        "neighbor_roi": "int16", "similarity": "float32", "x0": "int32", "y0": "int32", "x1": "int32", "y1": "int32",
        "neighbor_x0": "int32", "neighbor_y0": "int32", "neighbor_x1": "int32", "neighbor_y1": "int32",
    }  # fmt: skip
    of = [made.features[made.boxes["image"] == image] for image in range(8)]
    expected = [
        (image, neighbor, rank, pair, roi, neighbor_roi, np.float32(similarity))
        for image in range(8)
        for rank, neighbor in enumerate(made.neighbors[image])
        for pair, (roi, neighbor_roi, similarity) in enumerate(plain_pairs(of[image], of[neighbor], 0.2))
    ]
    assert list(table.iloc[:, :7].itertuples(index=False, name=None)) == expected


def test_boxes_are_those_of_the_regions(made: Made, tmp_path: Path) -> None:
    table = made.run(tmp_path / "out")
    corners = ["x0", "y0", "x1", "y1"]
    known = made.boxes.set_index(["image", "roi"])[corners]
    query = known.loc[list(zip(table["image"], table["roi"], strict=True))]
    other = known.loc[list(zip(table["neighbor"], table["neighbor_roi"], strict=True))]
    np.testing.assert_array_equal(table[corners], query)
    np.testing.assert_array_equal(table[[f"neighbor_{corner}" for corner in corners]], other)


def test_row_groups_change_nothing(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made.run(tmp_path / "whole")
    monkeypatch.setattr(step, "_ROW_GROUP", 4)
    pd.testing.assert_frame_equal(made.run(tmp_path / "parts"), whole)


def test_same_bytes_again(made: Made, tmp_path: Path) -> None:
    for name in ("first", "second"):
        made.run(tmp_path / name)
    for name in ("pairs.parquet", "gallery.html", "preview.png"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_metrics(made: Made, tmp_path: Path) -> None:
    table = made.run(tmp_path / "out")
    metrics = made.report.metrics
    assert json.loads(json.dumps(metrics)) == metrics
    assert metrics["pairs"] == len(table)
    assert metrics["pairs_per_image_mean"] == len(table) / 8
    assert metrics["similarity_median"] == pytest.approx(table["similarity"].median())
    assert metrics["fallback_share"] == 2 / 8
    uses = table.groupby(["image", "rank", "neighbor_roi"])["pair"].transform("size")
    assert metrics["reused_share"] == (uses > 1).mean()


def test_artifacts_that_do_not_belong_together(made: Made, tmp_path: Path) -> None:
    np.save(made.folder / "features.npy", made.features[1:])
    with pytest.raises(ValueError, match="85 boxes, 84 features and 8 photos"):
        made.run(tmp_path / "features")
    np.save(made.folder / "features.npy", made.features)
    pd.read_parquet(made.folder / "neighbors.parquet")[2:].to_parquet(made.folder / "neighbors.parquet")
    with pytest.raises(ValueError, match=r"neighbors.parquet.*another catalog"):
        made.run(tmp_path / "neighbors")


def test_on_real_artifacts(
    tmp_path: Path, photo_catalog: Catalog, neighbors: Path, regions: Path, features: Path
) -> None:
    report = Report()
    step.run(
        out=tmp_path, report=report, catalog=photo_catalog.directory, root=photo_catalog.root, retrieval=neighbors,
        regions=regions, roi_features=features, fraction=0.1, gallery_images=24,
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "pairs.parquet")
    assert (table.groupby(["image", "rank"])["similarity"].diff().dropna() <= 0).all()
    assert (tmp_path / "gallery.html").stat().st_size < 3_000_000
    with Image.open(tmp_path / "preview.png") as picture:
        assert picture.width > 600
