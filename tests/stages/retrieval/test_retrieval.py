"""The retrieval step, on real photos."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages import retrieval
from stages.data import indexing
from stages.data.catalog import Catalog
from stages.data.decode import decode
from stages.learning.encoder import load_encoder, random_encoder, save_encoder
from stages.report import Report
from stages.retrieval import embed


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("encoder")
    save_encoder(random_encoder(0, backbone="resnet10t", projector_hidden=32, projector_out=16), directory)
    return directory


def run(out: Path, catalog: Catalog, encoder: Path, neighbors: int = 3, workers: int = 0, **changed: Any) -> Report:
    out.mkdir(exist_ok=True)
    report = Report()
    settings: dict[str, Any] = {
        "resize": 72, "crop": 64, "precision": "fp32", "index": "auto", "exact_up_to": 1000, "ivf_probes": 4,
        "hnsw_links": 8, "hnsw_search": 32, "recall_sample": 100, "max_similarity": None, "batch_size": 3,
        "compile": False,
    }  # fmt: skip
    retrieval.run(
        out=out, report=report, catalog=catalog.directory, root=catalog.root, encoder=encoder, neighbors=neighbors,
        device="cpu", workers=workers, **settings | changed,
    )  # fmt: skip
    return report


def test_tables_hold_what_the_contract_says(tmp_path: Path, photo_catalog: Catalog, encoder: Path) -> None:
    report = run(tmp_path / "out", photo_catalog, encoder)
    rows = np.load(tmp_path / "out" / "embeddings.npy", allow_pickle=False)
    assert rows.shape == (len(photo_catalog), 16)
    assert rows.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(rows.astype(float), axis=1), 1, atol=1e-3)

    table = pd.read_parquet(tmp_path / "out" / "neighbors.parquet")
    assert [str(kind) for kind in table.dtypes] == ["int32", "int16", "int32", "float32"]
    assert table["image"].tolist() == np.repeat(np.arange(len(rows)), 3).tolist()
    assert table["rank"].tolist() == [0, 1, 2] * len(rows)
    similarity = rows.astype(float) @ rows.astype(float).T
    np.testing.assert_array_equal(table["similarity"], np.float32(similarity[table["image"], table["neighbor"]]))
    assert report.metrics["nearest_similarity"] == pytest.approx(table[table["rank"] == 0]["similarity"].mean())
    assert report.metrics["farthest_similarity"] == pytest.approx(table[table["rank"] == 2]["similarity"].mean())
    assert report.metrics["embedding_std"] == pytest.approx(rows.astype(float).std(axis=0).mean(), rel=1e-3)
    assert report.metrics["embedding_std_even"] == 0.25
    assert (report.metrics["index"], report.metrics["recall_at_k"]) == ("exact", 1.0)
    assert not (tmp_path / "out" / "duplicates.parquet").exists()


def test_row_is_the_projection_of_that_photo(tmp_path: Path, photo_catalog: Catalog, encoder: Path) -> None:
    """Drawn by hand: shorter side to 72 pixels, centre 64 x 64, projector's output."""
    run(tmp_path / "out", photo_catalog, encoder)
    photo = decode(photo_catalog.path(5))
    scale = 72 / min(photo.size)
    photo = photo.resize((int(photo.width * scale), int(photo.height * scale)), 2)
    left, top = round((photo.width - 64) / 2), round((photo.height - 64) / 2)
    pixels = torch.from_numpy(np.array(photo.crop((left, top, left + 64, top + 64)))).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(load_encoder(encoder)(pixels))[0]
    np.testing.assert_allclose(np.load(tmp_path / "out" / "embeddings.npy")[5], expected, atol=2e-3)


def test_same_bytes_with_workers(tmp_path: Path, photo_catalog: Catalog, encoder: Path) -> None:
    for workers in (0, 2):
        run(tmp_path / str(workers), photo_catalog, encoder, workers=workers)
    for name in ("embeddings.npy", "neighbors.parquet"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_identical_photos_find_each_other(tmp_path: Path, photo_catalog: Catalog, encoder: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(photo_catalog.path(0 if name != "b.jpg" else 1), tmp_path / "photos" / name)
    (tmp_path / "catalog").mkdir()
    indexing.run(
        out=tmp_path / "catalog", report=Report(), format="folder", root=tmp_path / "photos", annotations=None,
        split=None, list_file=None, min_side=32, max_rejected=0, workers=1,
    )  # fmt: skip
    run(tmp_path / "out", Catalog(tmp_path / "catalog", tmp_path / "photos"), encoder, neighbors=2)
    table = pd.read_parquet(tmp_path / "out" / "neighbors.parquet")
    assert table["neighbor"].tolist() == [2, 1, 0, 2, 0, 1]


@pytest.mark.parametrize("neighbors", [0, 8])
def test_impossible_number_of_neighbors(tmp_path: Path, photo_catalog: Catalog, encoder: Path, neighbors: int) -> None:
    with pytest.raises(ValueError, match=rf"retrieval.neighbors={neighbors} .* 8 photos.* 7 or less"):
        run(tmp_path / "out", photo_catalog, encoder, neighbors=neighbors)


def test_a_collapsed_encoder_is_called_out(
    tmp_path: Path, photo_catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    collapsed = random_encoder(0, backbone="resnet10t", projector_hidden=32, projector_out=16)
    with torch.no_grad():
        collapsed.projector[0].weight.mul_(1e-4)
        collapsed.projector[0].bias.fill_(1.0)
    save_encoder(collapsed, tmp_path)
    report = run(tmp_path / "out", photo_catalog, tmp_path)
    assert report.metrics["embedding_std"] < 0.01
    assert "collapsed" in caplog.text


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_an_index_writes_its_recall(tmp_path: Path, photo_catalog: Catalog, encoder: Path, index: str) -> None:
    report = run(tmp_path / "out", photo_catalog, encoder, index=index)
    assert report.metrics["index"] == index
    assert report.metrics["recall_sample"] == 8
    assert 0.5 <= report.metrics["recall_at_k"] <= 1
    assert len(pd.read_parquet(tmp_path / "out" / "neighbors.parquet")) == 24


def test_above_its_limit_auto_is_ivf(tmp_path: Path, photo_catalog: Catalog, encoder: Path) -> None:
    assert run(tmp_path / "out", photo_catalog, encoder, exact_up_to=7).metrics["index"] == "ivf"


def test_near_duplicates_are_listed_and_counted(tmp_path: Path, photo_catalog: Catalog, encoder: Path) -> None:
    run(tmp_path / "all", photo_catalog, encoder)
    everything = pd.read_parquet(tmp_path / "all" / "neighbors.parquet")
    most = float(everything["similarity"].drop_duplicates().nlargest(3).iloc[1:].mean())
    report = run(tmp_path / "some", photo_catalog, encoder, max_similarity=most)
    listed = pd.read_parquet(tmp_path / "some" / "duplicates.parquet")
    expected = everything[everything["similarity"] > most]
    assert listed.to_numpy().tolist() == expected[["image", "neighbor", "similarity"]].to_numpy().tolist()
    assert report.metrics["near_duplicates"] == len(expected) > 0
    assert report.metrics["near_duplicate_images"] == expected["image"].nunique()
    assert pd.read_parquet(tmp_path / "some" / "neighbors.parquet")["similarity"].max() <= most


class Interrupted(Exception):
    pass


class Interrupting(Report):
    """The step ends after so many photos."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
        if unit == "photos" and done >= self._after:
            raise Interrupted


def test_embedding_goes_on_where_it_was_interrupted(
    tmp_path: Path, photo_catalog: Catalog, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole", photo_catalog, encoder)
    monkeypatch.setattr(embed, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    out = tmp_path / "parts"
    (out / "scratch").mkdir(parents=True)
    settings: dict[str, Any] = {
        "resize": 72, "crop": 64, "precision": "fp32", "batch_size": 3, "compile": False,
        "device": torch.device("cpu"), "workers": 0,
    }  # fmt: skip
    place = photo_catalog, encoder, out / "embeddings.npy", out / "scratch"
    with pytest.raises(Interrupted):
        embed.embed_photos(*place, Interrupting(after=6), **settings)

    firsts: list[int] = []
    original = embed.photo_loader

    def noted(*args: Any, **settings: Any) -> Any:
        firsts.append(settings["first"])
        return original(*args, **settings)

    monkeypatch.setattr(embed, "photo_loader", noted)
    run(out, photo_catalog, encoder)
    run(out, photo_catalog, encoder)
    assert firsts == [3]  # 6 were done, 3 of them safely; the second time all are there
    for name in ("embeddings.npy", "neighbors.parquet"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
