from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, recall_score

from stages.evaluation.estimates import resample_counts
from stages.evaluation.metrics import mean_iou

IGNORED = 255
NAMES = ("background", "cat", "dog", "cow")


def counts_of(predicted: np.ndarray, labels: np.ndarray, classes: int = len(NAMES)) -> np.ndarray:
    """Of each photo of (N, H, W)."""
    pairs = zip(torch.from_numpy(predicted), torch.from_numpy(labels), strict=True)
    return np.stack([mean_iou.class_counts(*pair, classes=classes, ignored=IGNORED).numpy() for pair in pairs])


def random_maps(rng: np.random.Generator, photos: int = 6) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.choice([0, 1, 2, 3, IGNORED], p=[0.5, 0.2, 0.15, 0.1, 0.05], size=(photos, 20, 30)).astype(np.int32)
    wrong = rng.random(labels.shape) < 0.4
    predicted = np.where(wrong | (labels == IGNORED), rng.integers(4, size=labels.shape), labels).astype(np.int32)
    return predicted, labels


def test_by_hand():
    labels = np.array([[[0, 0, 1], [1, 1, IGNORED]]])
    predicted = np.array([[[0, 1, 1], [1, 0, 2]]])
    counts = counts_of(predicted, labels)
    assert counts.tolist() == [[[1, 2, 0, 0], [2, 3, 0, 0], [2, 3, 0, 0]]]
    values = mean_iou.estimates(counts, NAMES, seed=0)
    assert values["iou/background"].value == pytest.approx(1 / 3)  # one pixel of three that either calls background
    assert values["iou/cat"].value == pytest.approx(2 / 4)
    assert values["miou"].value == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert values["pixel_accuracy"].value == pytest.approx(3 / 5)
    assert values["class_accuracy"].value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert not {"iou/dog", "iou/cow"} & set(values)  # nobody labelled or predicted them


def test_as_scikit_learn_has_it():
    predicted, labels = random_maps(np.random.default_rng(0))
    values = mean_iou.estimates(counts_of(predicted, labels), NAMES, seed=0)
    counted = labels != IGNORED
    overlaps = jaccard_score(labels[counted], predicted[counted], average=None)
    assert [values[f"iou/{name}"].value for name in NAMES] == pytest.approx(overlaps.tolist(), abs=1e-12)
    assert values["miou"].value == pytest.approx(overlaps.mean(), abs=1e-12)
    recall = recall_score(labels[counted], predicted[counted], average="macro")
    assert values["class_accuracy"].value == pytest.approx(recall, abs=1e-12)


def test_perfect_maps_score_everything():
    _, labels = random_maps(np.random.default_rng(1))
    values = mean_iou.estimates(counts_of(np.where(labels == IGNORED, 2, labels), labels), NAMES, seed=0)
    assert {estimate.value for estimate in values.values()} == {1.0}
    assert values["miou"].interval == (1.0, 1.0)


def test_shuffled_labels_score_chance():
    rng = np.random.default_rng(2)
    labels = rng.choice(4, p=[0.6, 0.2, 0.15, 0.05], size=(4, 100, 100))
    values = mean_iou.estimates(
        counts_of(rng.permutation(labels.reshape(-1)).reshape(labels.shape), labels), NAMES, seed=0
    )
    for figure, estimate in values.items():
        assert estimate.value == pytest.approx(estimate.chance, abs=0.01), figure


def test_a_class_that_is_predicted_but_nowhere_labelled_counts_as_missed():
    labels = np.zeros((1, 2, 2), np.int32)
    predicted = np.array([[[0, 0], [0, 1]]], np.int32)
    values = mean_iou.estimates(counts_of(predicted, labels), NAMES, seed=0)
    assert values["iou/cat"].value == 0
    assert values["miou"].value == pytest.approx((3 / 4 + 0) / 2)
    assert values["class_accuracy"].value == pytest.approx(3 / 4)  # of the classes that have pixels


def test_resamples_are_those_of_photos_drawn_again_and_again():
    predicted, labels = random_maps(np.random.default_rng(3), photos=5)
    counts = counts_of(predicted, labels)
    values = mean_iou.estimates(counts, NAMES, seed=4)
    for number, drawn in enumerate(resample_counts(5, seed=4)[:5]):
        again = counts_of(np.repeat(predicted, drawn, axis=0), np.repeat(labels, drawn, axis=0))
        expected = mean_iou.estimates(again, NAMES, seed=0)
        for figure in ("miou", "pixel_accuracy", "class_accuracy", "iou/dog"):
            assert values[figure].resamples[number] == pytest.approx(expected[figure].value, abs=1e-12)


def test_photos_without_a_label_are_refused():
    nothing = np.full((1, 3, 3), IGNORED)
    with pytest.raises(ValueError, match="label maps"):
        mean_iou.estimates(counts_of(nothing * 0, nothing), NAMES, seed=0)
