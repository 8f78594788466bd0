"""The step `retrieval_map`: photos by shared classes, objects by class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from stages.data.catalog import Catalog
from stages.evaluation.photo_labels import IGNORED, NEGATIVE, POSITIVE
from stages.evaluation.protocols import retrieval_map
from stages.evaluation.protocols.retrieval_map import object_estimates, photo_estimates
from stages.report import Report
from tests.stages.evaluation.protocols.labelled_scenes import ENCODER, outcome_of, scene_catalog, scene_features


def labels_of(rng: np.random.Generator, photos: int, classes: int) -> np.ndarray:
    return np.where(rng.random((photos, classes)) < 0.3, POSITIVE, NEGATIVE).astype(np.int8)


def by_sklearn(features: np.ndarray, query: int, relevant: np.ndarray, allowed: np.ndarray) -> float:
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    return average_precision_score(relevant[allowed], (units @ units[query])[allowed])


def test_photos_that_share_a_class_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    labels, features = labels_of(rng, 40, 4), rng.normal(size=(40, 6))
    labels[3, 1] = IGNORED
    positive, maybe = labels == POSITIVE, labels == IGNORED
    any_class, each_class = [], {name: [] for name in range(4)}
    for query in range(40):
        if not positive[query].any():
            continue
        others = np.arange(40) != query
        relevant = (positive & positive[query]).any(axis=1)
        unclear = ((positive | maybe) & (positive | maybe)[query]).any(axis=1) & ~relevant
        any_class.append(by_sklearn(features, query, relevant, others & ~unclear))
        for name in np.flatnonzero(positive[query]):
            shown = others & ~maybe[:, name]
            each_class[name].append(by_sklearn(features, query, positive[:, name], shown))
    found = photo_estimates(features, labels, queries=100, seed=0)
    assert found["photo_map"].value == pytest.approx(np.mean(any_class), abs=1e-6)
    of_classes = [np.mean(precisions) for precisions in each_class.values()]
    assert found["photo_map_macro"].value == pytest.approx(np.mean(of_classes), abs=1e-6)


def test_perfect_features_score_100_and_shuffled_labels_chance() -> None:
    rng = np.random.default_rng(1)
    categories = np.repeat(np.arange(5), 40)
    labels = np.where(np.eye(5)[categories] > 0, POSITIVE, NEGATIVE).astype(np.int8)
    features, images, every = np.eye(5)[categories] + 0.01 * rng.random((200, 5)), np.arange(200), np.arange(200)
    photos = photo_estimates(features, labels, queries=200, seed=0)
    objects = object_estimates(features, images, categories, every, seed=0)
    assert {estimate.value for estimate in [*photos.values(), *objects.values()]} == {1.0}
    mixed = rng.permutation(200)
    photos = photo_estimates(features, labels[mixed], queries=200, seed=0)
    objects = object_estimates(features, images, categories[mixed], every, seed=0)
    for estimate in [*photos.values(), *objects.values()]:
        assert estimate.chance == pytest.approx(0.2, abs=0.02)
        assert estimate.value == pytest.approx(estimate.chance, abs=0.04)


def test_objects_of_the_own_photo_are_not_found() -> None:
    features = np.array([[1, 0], [1, 0.01], [1, 0.5], [1, 0.2]], float)
    images, categories = np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1])
    found = object_estimates(features, images, categories, np.array([0, 1, 2]), seed=0)
    # Rows 0 and 1 see rows 3 (wrong) and 2 (right); row 2 sees 3 (wrong), then 1 and 0 (right).
    assert found["object_map"].value == pytest.approx((1 / 2 + 1 / 2 + (1 / 2 + 2 / 3) / 2) / 3)
    assert found["object_top1"].value == 0


def test_fewer_queries_are_spread_over_the_photos() -> None:
    rng = np.random.default_rng(2)
    labels, features = labels_of(rng, 60, 3), rng.normal(size=(60, 4))
    few = photo_estimates(features, labels, queries=10, seed=0)
    assert few["photo_map"].value != photo_estimates(features, labels, queries=60, seed=0)["photo_map"].value
    with pytest.raises(ValueError, match="no class is in two photos"):
        photo_estimates(np.ones((2, 3)), np.array([[POSITIVE, NEGATIVE], [NEGATIVE, POSITIVE]]), queries=9, seed=0)


@pytest.fixture(scope="module")
def scenes(photos_dir: Path) -> Catalog:
    return scene_catalog(photos_dir)


def retrieve(out: Path, catalog: Catalog, features: Path) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    report = Report()
    retrieval_map.run(
        out=out, report=report, encoder=ENCODER, features_test=features, test=catalog.directory, depth="gap",
        test_root=catalog.root, object_size=32, queries=1000, batch_size=8, seed=0, device="cpu", workers=1,
    )  # fmt: skip
    return outcome_of(out) | {"metrics": report.metrics}


def test_scenes_and_their_objects_are_ranked(scenes: Catalog, tmp_path: Path) -> None:
    features = scene_features(tmp_path / "features", scenes)
    found = retrieve(tmp_path / "out", scenes, features)
    assert set(found["value"]) == set(retrieval_map.FIGURES) == set(found["figures"])
    assert found["metrics"]["object_retrieval"] == found["value"]["object_map"]
    rows = np.load(tmp_path / "out" / "objects.npy")
    assert rows.shape == (found["settings"]["objects"], 256)
    assert retrieve(tmp_path / "out", scenes, features)["values"] == found["values"]  # a resumed run


def test_photos_with_one_class_each_need_no_boxes(stripes: tuple[Catalog, Catalog], tmp_path: Path) -> None:
    catalog = stripes[1]
    assert not catalog.has_labels
    labels = retrieval_map.photo_labels(catalog)
    assert ((labels == POSITIVE).sum(axis=1) == 1).all()
    found = retrieve(tmp_path / "out", catalog, scene_features(tmp_path / "features", catalog))
    assert set(found["value"]) == {"photo_map", "photo_map_macro"}
