from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import plant
from sklearn.neighbors import KNeighborsClassifier

from stages.data.catalog import Catalog
from stages.evaluation.metrics.average_precision import average_precision
from stages.evaluation.protocols import knn
from stages.evaluation.saved import load_outcome
from stages.report import Report

CPU = torch.device("cpu")


def run(out: Path, catalogs: tuple[Catalog, Catalog], made: tuple[Path, Path], **changes: Any) -> Report:
    out.mkdir(exist_ok=True)
    report = Report()
    train, test = catalogs
    settings: dict[str, Any] = {"depth": "gap", "neighbors": [1, 5], "temperature": 0.07, "ap": "area", "seed": 0}
    knn.run(
        out=out, report=report, features_train=made[0], features_test=made[1], train=train.directory,
        train_root=train.root, test=test.directory, test_root=test.root, device="cpu", **(settings | changes),
    )  # fmt: skip
    return report


@pytest.fixture
def with_classes(make_catalog):
    def make(name: str, classes: list[int], categories: tuple[str, ...] = ("cat", "cow", "dog")) -> Catalog:
        catalog = make_catalog(name, len(classes), [], categories)
        np.save(catalog.directory / "classes.npy", np.array(classes, np.int32))
        return catalog

    return make


@pytest.mark.parametrize(("queries", "rows"), [(3, 4), (7, 100)])
def test_nearest_agrees_with_a_whole_sort(monkeypatch, queries, rows):
    monkeypatch.setattr(knn, "_QUERIES", queries)
    monkeypatch.setattr(knn, "_ROWS", rows)
    monkeypatch.setattr(knn, "_QUERY_BYTES", 5 * 6 * 8)  # five queries a pass
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(31, 6)), rng.normal(size=(17, 6))
    found = knn.nearest(train, test, 9, device=CPU, report=Report())
    cosine = (test / np.linalg.norm(test, axis=1)[:, None]) @ (train / np.linalg.norm(train, axis=1)[:, None]).T
    order = np.argsort(-cosine, axis=1)[:, :9]
    np.testing.assert_array_equal(found.photos, order)
    np.testing.assert_allclose(found.similarity, np.take_along_axis(cosine, order, 1), atol=1e-6)


def test_classes_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    train, test, classes = rng.normal(size=(80, 5)), rng.normal(size=(40, 5)), rng.integers(4, size=80)
    found = knn.nearest(train, test, 12, device=CPU, report=Report())
    peer = KNeighborsClassifier(
        12, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(train, classes)
    np.testing.assert_array_equal(knn.predicted_class(found, classes, 4, 0.07), peer.predict(test))
    shares = knn.class_shares(found, np.eye(4, dtype=bool)[classes], 0.07)
    np.testing.assert_allclose(shares, peer.predict_proba(test), atol=1e-5)


def test_one_class_a_photo(tmp_path, with_classes):
    rng = np.random.default_rng(0)
    classes = rng.integers(3, size=(2, 200))
    catalogs = with_classes("train", classes[0].tolist()), with_classes("test", [*classes[1][:-1].tolist(), -1])
    features = [np.eye(3)[each] + rng.normal(0, 0.05, (200, 3)) for each in classes]
    made = plant(tmp_path / "a", gap=features[0]), plant(tmp_path / "b", gap=features[1])
    report = run(tmp_path / "out", catalogs, made)
    outcome = load_outcome(tmp_path / "out", "mine")
    assert report.metrics == {"top1_1": 1.0, "top1_5": 1.0}
    assert list(outcome.figures) == ["top1 k=1", "top1 k=5"]
    assert outcome.values["top1 k=5"]["mine"].chance == pytest.approx(1 / 3, abs=0.03)
    assert "1 test photos without a class are left out." in outcome.notes

    shuffled = plant(tmp_path / "c", gap=rng.permutation(features[0])), made[1]
    run(tmp_path / "shuffled", catalogs, shuffled)
    estimate = load_outcome(tmp_path / "shuffled", "mine").values["top1 k=5"]["mine"]
    assert estimate.value == pytest.approx(estimate.chance, abs=0.12)
    low, high = estimate.interval
    assert low < estimate.value < high


def test_training_photos_without_a_class_have_no_vote():
    found = knn.Neighbors(np.array([[0.9, 0.8], [0.9, 0.8]], np.float32), np.array([[0, 1], [0, 2]]))
    assert knn.predicted_class(found, np.array([-1, 1, -1]), 2, 0.07).tolist() == [1, -1]


def test_several_classes_a_photo(tmp_path, make_catalog):
    shown = [[0], [1], [0, 1], [1]] * 10
    objects = [(i, c, 0, 0, 50, 50, False, False) for i, classes in enumerate(shown) for c in classes]
    objects += [(3, 0, 0, 0, 50, 50, True, False)]  # of which the figure knows nothing
    catalogs = make_catalog("train", 40, objects), make_catalog("test", 40, objects)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 40, 6))
    made = plant(tmp_path / "a", gap=rows[0]), plant(tmp_path / "b", gap=rows[1])
    run(tmp_path / "out", catalogs, made, neighbors=[7])
    outcome = load_outcome(tmp_path / "out", "mine")
    units = [each / np.linalg.norm(each, axis=1)[:, None] for each in rows]
    cosine = units[1] @ units[0].T
    present = np.array([[0 in classes, 1 in classes] for classes in shown])
    scores = np.zeros((40, 2))
    for i, row in enumerate(cosine):
        nearest = np.argsort(-row)[:7]
        weights = np.exp(row[nearest] / 0.07)
        scores[i] = np.round(weights @ present[nearest] / weights.sum(), 9)
    tested = np.arange(40) != 3
    expected = [
        float(average_precision(scores[tested, 0], present[tested, 0])),
        float(average_precision(scores[:, 1], present[:, 1])),
    ]
    assert outcome.values["ap cat k=7"]["mine"].value == pytest.approx(expected[0], abs=1e-6)
    assert outcome.values["map k=7"]["mine"].value == pytest.approx(np.mean(expected), abs=1e-6)

    perfect = plant(tmp_path / "c", gap=present + 0.01), plant(tmp_path / "d", gap=present + 0.01)
    run(tmp_path / "perfect", catalogs, perfect, neighbors=[5])
    assert load_outcome(tmp_path / "perfect", "mine").values["map k=5"]["mine"].value == 1


def test_errors_say_what_to_do(tmp_path, with_classes):
    catalogs = with_classes("train", [0, 1, 2]), with_classes("test", [-1, -1])
    made = plant(tmp_path / "a", gap=np.eye(3)), plant(tmp_path / "b", gap=np.eye(3)[:2])
    with pytest.raises(ValueError, match=r"within 1 \.\. 3 photos"):
        run(tmp_path / "x", catalogs, made, neighbors=[4])
    with pytest.raises(ValueError, match="above 0"):
        run(tmp_path / "y", catalogs, made, neighbors=[1], temperature=0.0)
    with pytest.raises(ValueError, match="test on another split"):
        run(tmp_path / "z", catalogs, made, neighbors=[1])
