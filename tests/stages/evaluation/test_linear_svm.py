from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from stages.data.catalog import Catalog
from stages.evaluation import linear_svm
from stages.evaluation.embeddings import Embeddings
from stages.report import Report


def rows(categories: list[list[int]], **flags: bool) -> list:
    flags = {"difficult": False, "crowd": False} | flags
    return [(i, c, 0, 0, 50, 50, *flags.values()) for i, found in enumerate(categories) for c in found]


def evaluate(features: tuple[np.ndarray, np.ndarray], catalogs: tuple[Catalog, Catalog], costs=(0.1, 1.0)):
    train, test = ({"planted": Embeddings(f, f)} for f in features)
    return linear_svm.evaluate(
        train, test, *catalogs, costs=costs, resize=72, crop=64, seed=0, threads=2, report=Report()
    )


def test_labels_of_photos(make_catalog):
    objects = [
        (0, 0, 0, 0, 9, 9, False, False),
        (1, 0, 0, 0, 9, 9, True, False),
        (2, 0, 0, 0, 9, 9, True, False),
        (2, 0, 0, 0, 9, 9, False, False),
        (3, 1, 0, 0, 9, 9, False, True),
    ]
    labels = linear_svm.image_labels(make_catalog("c", 5, objects))
    assert labels.tolist() == [[1, -1], [0, -1], [1, -1], [-1, 1], [-1, -1]]


def test_features_that_are_the_labels_give_everything(make_catalog):
    held = [[0], [1], [0, 1], []] * 10
    catalogs = make_catalog("train", 40, rows(held)), make_catalog("test", 40, rows(held))
    features = np.array([[0 in h, 1 in h, 1] for h in held], dtype=np.float32)
    outcome = evaluate((features, features), catalogs)
    assert outcome.values["map"]["planted"].value == 1
    assert outcome.values["map"]["planted"].interval == (1, 1)


def test_noise_gives_chance(make_catalog):
    rng = np.random.default_rng(0)
    train, test = ([[int(rng.integers(2))] for _ in range(200)] for _ in range(2))
    catalogs = make_catalog("train", 200, rows(train)), make_catalog("test", 200, rows(test))
    features = rng.normal(size=(200, 8)).astype(np.float32), rng.normal(size=(200, 8)).astype(np.float32)
    estimate = evaluate(features, catalogs).values["map"]["planted"]
    assert estimate.chance == pytest.approx(0.52, abs=0.04)
    assert estimate.value == pytest.approx(estimate.chance, abs=0.1)


def test_only_difficult_photos_are_negative_in_training_and_ignored_in_testing(make_catalog):
    held = [[0], [1]] * 10
    difficult = [(i, 0, 0, 0, 9, 9, True, False) for i in range(20, 24)]
    train = make_catalog("train", 24, rows(held) + difficult)
    test = make_catalog("test", 24, rows(held) + difficult)
    features = np.array([[h == [0], h == [1]] for h in held] + [[1, 0]] * 4, dtype=np.float32)
    outcome = evaluate((features, features), (train, test))
    # In testing they would be false alarms ranked with the cats, and cat's AP 10 / 14.
    assert outcome.values["ap cat"]["planted"].value == 1
    result = linear_svm.classify(
        linear_svm.scaled_rows(features), linear_svm.image_labels(train)[:, 0] == 1, features, costs=(1.0,), seed=0
    )
    clean = linear_svm.classify(
        linear_svm.scaled_rows(features[:20]),
        linear_svm.image_labels(train)[:20, 0] == 1,
        features,
        costs=(1.0,),
        seed=0,
    )
    assert result.scores[0] < clean.scores[0], "as negatives that look like cats they pull the score of cats down"


def test_classes_that_cannot_be_measured_are_named(make_catalog):
    held = [[0], [1]] * 6
    names = ("cat", "dog", "two in train", "none in test")
    train = make_catalog("train", 12, rows([*held[:2], [0, 2], [1, 2], *([0, 3], [1, 3]) * 4]), names)
    test = make_catalog("test", 12, rows([*held[:10], [0, 2], [1]]), names)
    features = np.array([[0 in h, 1 in h] for h in held], dtype=np.float32)
    outcome = evaluate((features, features), (train, test))
    assert sorted(outcome.values) == ["ap cat", "ap dog", "map"]
    assert any("two in train, none in test" in note for note in outcome.notes)


def test_errors_say_what_to_do(make_catalog):
    held = [[0], [1]] * 6
    train = make_catalog("train", 12, rows(held))
    with pytest.raises(ValueError, match="two splits of one data set"):
        linear_svm.measurable_classes(train, make_catalog("other", 12, rows(held), ("cat", "cow")))
    with pytest.raises(ValueError, match="Evaluate on more photos"):
        linear_svm.measurable_classes(train, make_catalog("empty", 12, []))


def test_fits_that_do_not_converge_are_counted_not_printed(make_catalog, recwarn, monkeypatch):
    monkeypatch.setattr(linear_svm, "MAX_ITERATIONS", 2)
    rng = np.random.default_rng(0)
    held = [[int(rng.integers(2))] for _ in range(60)]
    catalogs = make_catalog("train", 60, rows(held)), make_catalog("test", 60, rows(held))
    features = rng.normal(size=(60, 16)).astype(np.float32)
    notes = evaluate((features, features), catalogs, costs=(100.0, 1000.0)).notes
    assert any("of 14 SVM fits stopped at 2 iterations" in note for note in notes)
    assert not [warning for warning in recwarn if "converge" in str(warning.message)]


def test_agrees_with_a_transcription_of_the_reference():
    """The call of OpenSelfSup's benchmarks/svm_tools/train_svm_kfold_parallel.py, with a seed."""
    rng = np.random.default_rng(0)
    positive = rng.random(90) < 0.3
    features = rng.normal(size=(120, 12)) + 0.7 * np.append(positive, np.zeros(30))[:, None]
    train, test = linear_svm.scaled_rows(features)[:90], linear_svm.scaled_rows(features)[90:]
    np.testing.assert_allclose(train[0], features[0] / (np.linalg.norm(features[0]) + 1e-5))
    truth, costs = np.where(positive, 1, -1), (0.001, 0.1, 10.0)

    def svm(cost: float) -> LinearSVC:
        return LinearSVC(
            C=cost, class_weight={1: 2, -1: 1}, intercept_scaling=1.0, penalty="l2", loss="squared_hinge",
            tol=0.0001, dual=True, max_iter=2000, random_state=7,
        )  # fmt: skip

    quality = [cross_val_score(svm(cost), train, truth, cv=3, scoring="average_precision").mean() for cost in costs]
    best = costs[int(np.argmax(quality))]
    result = linear_svm.classify(train, positive, test, costs=costs, seed=7)
    assert (result.cost, result.fits) == (best, 10)
    np.testing.assert_array_equal(result.scores, svm(best).fit(train, truth).decision_function(test))
