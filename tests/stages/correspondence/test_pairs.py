"""The correspondence step: the pairs that ORL's definition names, and pictures of them."""

from __future__ import annotations

import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.correspondence import pair_table
from stages.correspondence import pairs as step
from stages.correspondence.best_pairs import Matcher, Rule
from stages.data.catalog import Catalog
from stages.learning.similarity import lost_to_rounding
from stages.report import Report
from stages.retrieval.tables import NeighborsWriter
from stages.shards import cut
from tests.stages.correspondence.mined_files import CORNERS, write_boxes

RULE = {"fraction": 0.2, "fraction_of": "query_boxes", "mutual": False, "unique": False, "min_similarity": None}


def plain_pairs(query: np.ndarray, other: np.ndarray, rule: Rule) -> list[tuple[int, int, float]]:
    """The rule word by word, on all entries of S = F_q F_k^T in a list that is sorted as a whole."""
    entries = []
    for i, a in enumerate(query.astype(float)):
        for j, b in enumerate(other.astype(float)):
            entries.append((-sum((a * b).tolist()), i, j))
    entries.sort()
    chosen: list[tuple[int, int, float]] = []
    whole = len(query) if rule.fraction_of == "query_boxes" else len(query) * len(other)
    for negative, i, j in entries:
        if rule.mutual and ((i, j) != _first(entries, 1, i) or (i, j) != _first(entries, 2, j)):
            continue
        if rule.unique and any(i == row or j == column for row, column, _ in chosen):
            continue
        chosen.append((i, j, -negative))
    chosen = chosen[: max(1, int(rule.fraction * whole))]
    return [pair for pair in chosen if rule.min_similarity is None or pair[2] >= rule.min_similarity]


def _first(entries: list[tuple[float, int, int]], side: int, box: int) -> tuple[int, int]:
    return next(entry[1:] for entry in entries if entry[side] == box)


RULES = {
    "official": Rule(0.2), "paper": Rule(0.1, "matrix"), "everything": Rule(1.0, "matrix"),
    "mutual": Rule(0.5, mutual=True), "unique": Rule(0.5, unique=True),
    "unique, paper": Rule(0.5, "matrix", unique=True),
    "both": Rule(1.0, mutual=True, unique=True), "least": Rule(0.5, min_similarity=0.3),
    "least, unique": Rule(1.0, unique=True, min_similarity=0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RULES))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 14), min_size=2, max_size=4),
    distinct=st.sampled_from([2, 5, 1000]),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    seed=st.integers(0, 2**32 - 1),
)
def test_pairs_are_those_of_the_rule(name: str, sizes: list[int], distinct: int, dtype: torch.dtype, seed: int) -> None:
    """Few distinct features make many ties; many leave it to the rough similarities to find the candidates."""
    rng = np.random.default_rng(seed)
    features = [unit_rows(rng, distinct, seed)[rng.integers(0, distinct, size)] for size in sizes]
    lost = max(lost_to_rounding(rows, dtype) for rows in features)
    matcher = Matcher(RULES[name], torch.device("cpu"), lost)
    matcher._dtype = dtype
    found, lonely = matcher(features[0], features[1:])
    expected = [plain_pairs(features[0], other, RULES[name]) for other in features[1:]]
    if lonely:
        assert not any(expected)
        best = [plain_pairs(features[0], other, Rule(0.01))[0] for other in features[1:]]
        place = max(range(len(best)), key=lambda at: (best[at][2], -at))
        expected[place] = [best[place]]
    assert [
        [(*rois, similarity) for rois, similarity in zip(pairs.tolist(), alike.tolist(), strict=True)]
        for pairs, alike in found
    ] == expected


def unit_rows(rng: np.random.Generator, count: int, seed: int) -> np.ndarray:
    """(count, 24) float16 rows of length 1; for every other seed with much in common."""
    rows = rng.normal(size=(count, 24)) + 5 * (seed % 2)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def test_ten_percent_of_a_hundred_boxes_are_ten_pairs() -> None:
    assert Rule(0.1).count(100, 100) == 10
    assert Rule(0.1).count(29, 100) == 2
    assert Rule(0.1).count(1, 100) == 1
    assert Rule(1.0).count(50, 1) == 50
    assert Rule(0.1, "matrix").count(100, 100) == 1000


class Made:
    """Artifacts as former steps would have written them, of made-up features."""

    def __init__(
        self, folder: Path, catalog: Catalog, counts: list[int], neighbors: list[list[int]], seed: int
    ) -> None:
        self.catalog, self.folder = catalog, folder
        rng = np.random.default_rng(seed)
        images = np.repeat(np.arange(len(counts)), counts)
        low = rng.integers(0, 90, (len(images), 2))
        boxes = pd.DataFrame({"image": images, "roi": np.concatenate([np.arange(n) for n in counts])})
        boxes[CORNERS] = np.hstack([low, low + rng.integers(20, 60, low.shape)])
        boxes["score"] = np.where(np.isin(images, np.flatnonzero(np.array(counts) == 1)), np.nan, 0.5)
        write_boxes(folder, boxes)
        rows = rng.normal(size=(len(images), 16))
        self.features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
        np.save(folder / "features.npy", self.features)
        with NeighborsWriter(folder) as writer:
            writer.append(np.array(neighbors), np.full(np.shape(neighbors), 0.5))
        self.boxes, self.neighbors = boxes, neighbors
        self.report = Report()

    def run(self, out: Path, **changed: Any) -> pd.DataFrame:
        out.mkdir(exist_ok=True)
        arguments: dict[str, Any] = {
            "catalog": self.catalog.directory, "root": self.catalog.root, "retrieval": self.folder,
            "regions": self.folder, "roi_features": self.folder, "gallery_images": 3, "device": "cpu", "workers": 1,
        }  # fmt: skip
        step.run(out=out, report=self.report, **arguments | RULE | changed)
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
        for pair, (roi, neighbor_roi, similarity) in enumerate(plain_pairs(of[image], of[neighbor], Rule(0.2)))
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


def test_arrays_for_training_are_the_table(made: Made, tmp_path: Path) -> None:
    table = made.run(tmp_path / "out", min_similarity=0.55)
    neighbors, starts, rois = (
        np.load(tmp_path / "out" / f"pair_{name}.npy", mmap_mode="r") for name in ("neighbors", "starts", "rois")
    )
    assert neighbors.tolist() == made.neighbors
    assert (neighbors.dtype, starts.dtype, rois.dtype) == (np.int32, np.int64, np.int16)
    assert np.diff(starts).min() == 0
    for image, rank in itertools.product(range(8), range(2)):
        group = table[(table["image"] == image) & (table["rank"] == rank)]
        assert (
            rois[starts[2 * image + rank] : starts[2 * image + rank + 1]].tolist()
            == group[["roi", "neighbor_roi"]].to_numpy().tolist()
        )


def test_shards_processes_and_row_groups_change_nothing(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made.run(tmp_path / "whole")
    monkeypatch.setattr(pair_table, "_ROW_GROUP", 4)
    monkeypatch.setattr(step, "cut", partial(cut, size=3))
    for workers in (1, 2):
        pd.testing.assert_frame_equal(made.run(tmp_path / str(workers), workers=workers), whole)


def test_shards_that_are_there_are_not_made_again(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made.run(tmp_path / "out")
    monkeypatch.setattr(step, "mine_shard", pytest.fail)
    pd.testing.assert_frame_equal(made.run(tmp_path / "out"), whole)


def test_a_photo_without_pairs_keeps_its_best(made: Made, tmp_path: Path) -> None:
    table = made.run(tmp_path / "out", min_similarity=0.9, fraction_of="matrix", fraction=1.0)
    assert made.report.metrics["best_pair_only_images"] == 8
    everything = made.run(tmp_path / "all", fraction_of="matrix", fraction=1.0)
    best = everything.loc[everything.groupby("image")["similarity"].idxmax()]
    columns = ["image", "neighbor", "rank", "roi", "neighbor_roi"]
    assert table[columns].to_numpy().tolist() == best[columns].to_numpy().tolist()


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
    assert metrics["similarity_median"] == pytest.approx(table["similarity"].median(), abs=1e-4)
    assert metrics["best_pair_only_images"] == 0
    assert metrics["fallback_share"] == 2 / 8
    uses = table.groupby(["image", "rank", "neighbor_roi"])["pair"].transform("size")
    assert metrics["reused_share"] == (uses > 1).mean()


def test_artifacts_that_do_not_belong_together(made: Made, tmp_path: Path) -> None:
    path = made.folder / "features.npy"
    np.save(path, made.features[1:])
    with pytest.raises(ValueError, match=r"85 boxes and features of shape \(84, 16\).*Run roi_features again"):
        made.run(tmp_path / "features")
    np.save(path, made.features)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"features.npy is damaged.*--force"):
        made.run(tmp_path / "truncated")
    np.save(path, made.features)

    for other in ([[1, 2]] * 7, [[1, 99]] * 8):
        with NeighborsWriter(made.folder) as writer:
            writer.append(np.array(other), np.zeros((len(other), 2)))
        with pytest.raises(ValueError, match=r"neighbors.parquet.*another catalog"):
            made.run(tmp_path / "neighbors")
    corners = made.boxes[made.boxes["image"] < 7]
    write_boxes(made.folder, corners)
    with pytest.raises(ValueError, match=r"boxes of 7 photos where the catalog has 8"):
        made.run(tmp_path / "boxes")


def test_on_real_artifacts(
    tmp_path: Path, photo_catalog: Catalog, neighbors: Path, regions: Path, features: Path
) -> None:
    report = Report()
    step.run(
        out=tmp_path, report=report, catalog=photo_catalog.directory, root=photo_catalog.root, retrieval=neighbors,
        regions=regions, roi_features=features, gallery_images=24, device="cpu", workers=1, **RULE,
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "pairs.parquet")
    assert (table.groupby(["image", "rank"])["similarity"].diff().dropna() <= 0).all()
    assert (tmp_path / "gallery.html").stat().st_size < 3_000_000
    with Image.open(tmp_path / "preview.png") as picture:
        assert picture.width > 600
