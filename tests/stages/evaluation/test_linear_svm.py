from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from stages.data.catalog import Catalog
from stages.evaluation import linear_svm, svm
from stages.evaluation.embeddings import Embeddings
from stages.evaluation.linear_svm import ClassResult, Quality, TrainingSet, Trial
from stages.evaluation.photo_labels import image_labels
from stages.report import Report


def rows(categories: list[list[int]], **flags: bool) -> list:
    flags = {"difficult": False, "crowd": False} | flags
    return [(i, c, 0, 0, 50, 50, *flags.values()) for i, found in enumerate(categories) for c in found]


def evaluate(features: tuple[np.ndarray, np.ndarray], catalogs: tuple[Catalog, Catalog], costs=(0.1, 1.0)):
    train, test = ({"planted": Embeddings(f, f)} for f in features)
    return linear_svm.evaluate(
        train, test, *catalogs, costs=costs, resize=72, crop=64, seed=0, workers=1, report=Report()
    )


def classify(folder: Path, features: np.ndarray, positive: np.ndarray, **settings: Any) -> ClassResult:
    """One class, class 0, tested on the rows that it was trained on and those after them."""
    rows = svm.turn_rows(features[: len(positive)], features, folder)
    each = TrainingSet(np.arange(len(positive)), positive)
    return linear_svm.classify(rows, {0: each}, seed=7, workers=1, **settings)[0]


def test_labels_of_photos(make_catalog):
    objects = [
        (0, 0, 0, 0, 9, 9, False, False),
        (1, 0, 0, 0, 9, 9, True, False),
        (2, 0, 0, 0, 9, 9, True, False),
        (2, 0, 0, 0, 9, 9, False, False),
        (3, 1, 0, 0, 9, 9, False, True),
    ]
    labels = image_labels(make_catalog("c", 5, objects))
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


def test_only_difficult_photos_are_ignored_in_testing(make_catalog):
    held = [[0], [1]] * 10
    difficult = [(i, 0, 0, 0, 9, 9, True, False) for i in range(20, 24)]
    train = make_catalog("train", 24, rows(held) + difficult)
    test = make_catalog("test", 24, rows(held) + difficult)
    features = np.array([[h == [0], h == [1]] for h in held] + [[1, 0]] * 4, dtype=np.float32)
    outcome = evaluate((features, features), (train, test))
    # In testing they would be false alarms ranked with the cats, and cat's AP 10 / 14.
    assert outcome.values["ap cat"]["planted"].value == 1


def test_only_difficult_photos_in_training_are_negatives_in_the_reference_and_left_out_when_corrected():
    labels = np.array([[1, -1], [-1, 1], [0, 1], [1, 0]], dtype=np.int8)
    reference = linear_svm.training_sets(labels, np.array([0, 1]), "reference")
    assert [each.photos.tolist() for each in reference.values()] == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert [each.positive.tolist() for each in reference.values()] == [[1, 0, 0, 1], [0, 1, 1, 0]]
    corrected = linear_svm.training_sets(labels, np.array([0, 1]), "corrected")
    assert [each.photos.tolist() for each in corrected.values()] == [[0, 1, 3], [0, 1, 2]]
    assert [each.positive.tolist() for each in corrected.values()] == [[1, 0, 1], [0, 1, 1]]
    with pytest.raises(ValueError, match="reference, corrected"):
        linear_svm.training_sets(labels, np.array([0]), "ignored")


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
    for module in (svm, linear_svm):
        monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    rng = np.random.default_rng(0)
    held = [[int(rng.integers(2))] for _ in range(60)]
    catalogs = make_catalog("train", 60, rows(held)), make_catalog("test", 60, rows(held))
    features = rng.normal(size=(60, 16)).astype(np.float32)
    notes = evaluate((features, features), catalogs, costs=(100.0, 1000.0)).notes
    assert any("of 14 SVM fits for planted stopped at 2 iterations" in note for note in notes)
    assert not [warning for warning in recwarn if "converge" in str(warning.message)]


def test_agrees_with_a_transcription_of_the_reference(tmp_path):
    """The call of OpenSelfSup's benchmarks/svm_tools/train_svm_kfold_parallel.py, with a seed."""
    rng = np.random.default_rng(0)
    positive = rng.random(90) < 0.3
    features = rng.normal(size=(120, 12)) + 0.7 * np.append(positive, np.zeros(30))[:, None]
    train, test = svm.scaled_rows(features)[:90], svm.scaled_rows(features)
    truth, costs = np.where(positive, 1, -1), (0.001, 0.1, 10.0)

    def reference(cost: float) -> LinearSVC:
        return LinearSVC(
            C=cost, class_weight={1: 2, -1: 1}, intercept_scaling=1.0, penalty="l2", loss="squared_hinge",
            tol=0.0001, dual=True, max_iter=2000, random_state=7,
        )  # fmt: skip

    quality = [
        cross_val_score(reference(cost), train, truth, cv=3, scoring="average_precision").mean() for cost in costs
    ]
    best = costs[int(np.argmax(quality))]
    found: dict[Trial, Quality] = {}
    result = classify(tmp_path, features, positive, costs=costs, found=found.__setitem__)
    assert (result.cost, result.fits) == (best, 10)
    expected = reference(best).fit(train, truth).decision_function(test)
    np.testing.assert_allclose(result.scores, expected, rtol=0, atol=1e-9)
    means = [np.mean([found[Trial(0, fold, cost)].precision for fold in range(3)]) for cost in costs]
    np.testing.assert_allclose(means, quality, rtol=0, atol=1e-9)


def test_known_trials_are_not_fitted_again(tmp_path):
    rng = np.random.default_rng(1)
    features, positive = rng.normal(size=(40, 6)), np.arange(40) % 3 == 0
    found: dict[Trial, Quality] = {}
    first = classify(tmp_path, features, positive, costs=(0.1, 1.0, 10.0), found=found.__setitem__)
    known = dict(list(found.items())[:5])
    again: dict[Trial, Quality] = {}
    second = classify(tmp_path, features, positive, costs=(0.1, 1.0, 10.0), known=known, found=again.__setitem__)
    assert len(found) == 9
    assert again == {trial: quality for trial, quality in found.items() if trial not in known}
    assert (second.cost, second.fits) == (first.cost, first.fits)
    np.testing.assert_array_equal(second.scores, first.scores)


@pytest.mark.slow  # the processes take seconds to start
def test_several_processes_find_what_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(svm, "_NUMBERS_A_WORKER", 1)
    rng = np.random.default_rng(2)
    features, labels = rng.normal(size=(60, 8)), rng.integers(0, 2, size=(60, 4)) * 2 - 1
    rows = svm.turn_rows(features, features, tmp_path)
    sets = linear_svm.training_sets(labels, np.arange(4), "reference")
    done: list[tuple[int, int]] = []
    one, two = (
        linear_svm.classify(
            rows, sets, costs=(1.0, 100.0), seed=0, workers=workers, progress=lambda *fits: done.append(fits)
        )
        for workers in (1, 2)
    )
    for c in range(4):
        assert one[c].cost == two[c].cost
        np.testing.assert_array_equal(one[c].scores, two[c].scores)
    assert done == [(fit, 28) for fit in range(1, 29)] * 2
