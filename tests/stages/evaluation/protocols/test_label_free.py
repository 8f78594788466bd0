"""The step `label_free`: figures that need no labels, on real photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.data.catalog import Catalog
from stages.evaluation import spread
from stages.evaluation.protocols import label_free
from stages.report import Report
from tests.stages.evaluation.protocols.labelled_scenes import ENCODER, outcome_of, scene_features


def measure(out: Path, catalog: Catalog, features: Path, **other: Any) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"reference": None, "view_size": 32, "max_images": 100, "neighbors": 3}
    report = Report()
    label_free.run(
        out=out, report=report, encoder=ENCODER, features_test=features, test=catalog.directory,
        test_root=catalog.root, batch_size=4, seed=0, device="cpu", workers=1, **(settings | other),
    )  # fmt: skip
    return outcome_of(out) | {"metrics": report.metrics}


def test_figures_of_photos_and_their_views(photo_catalog: Catalog, tmp_path: Path) -> None:
    features = scene_features(tmp_path / "features", photo_catalog)
    found = measure(tmp_path / "out", photo_catalog, features)
    rows, views = np.load(features / "gap.npy"), np.load(tmp_path / "out" / "views.npy")
    assert views.shape == (16, 256)
    units = views / np.linalg.norm(views, axis=1, keepdims=True)
    expected = np.square(units[0::2] - units[1::2]).sum(axis=1).mean()
    assert found["value"]["alignment"] == pytest.approx(expected, abs=1e-6)
    assert found["value"]["mean_cosine"] == pytest.approx(spread.mean_cosine(rows))
    assert 1 <= found["value"]["effective_rank"] <= 8
    assert "shared_neighbors" not in found["value"]
    assert found["settings"]["neighbors"] is None
    assert found["metrics"]["uniformity"] == found["value"]["uniformity"] < 0
    assert measure(tmp_path / "out", photo_catalog, features)["values"] == found["values"]  # a resumed run


def test_neighbors_are_compared_with_those_of_another_encoder(photo_catalog: Catalog, tmp_path: Path) -> None:
    own = scene_features(tmp_path / "own", photo_catalog)
    other = scene_features(tmp_path / "other", photo_catalog, ENCODER | {"seed": 1})
    found = measure(tmp_path / "out", photo_catalog, own, reference=other, max_images=5)
    assert found["settings"]["photos"] == 5
    assert found["settings"]["reference"] == "other"
    assert found["values"]["shared_neighbors"]["chance"] == pytest.approx(3 / 7)
    assert found["value"]["shared_neighbors"] < 1
    assert measure(tmp_path / "same", photo_catalog, own, reference=own)["value"]["shared_neighbors"] == 1


def test_one_photo_is_too_few(photo_catalog: Catalog, tmp_path: Path) -> None:
    features = scene_features(tmp_path / "features", photo_catalog)
    with pytest.raises(ValueError, match="has 8 and at most 1 are used"):
        measure(tmp_path / "out", photo_catalog, features, max_images=1)
