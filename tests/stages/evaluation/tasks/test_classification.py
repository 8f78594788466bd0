"""Loss and figures of classifiers against scikit-learn, against perfect answers and against guesses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torch import Tensor

from stages.data.catalog import Catalog
from stages.evaluation.metrics.average_precision import average_precision
from stages.evaluation.photo_labels import IGNORED, POSITIVE, image_labels
from stages.evaluation.tasks.classification import PhotoTest, classification_loss
from stages.evaluation.tasks.targets import UNKNOWN
from stages.report import Report

Pair = tuple[Catalog, Catalog]


def judged(catalogs: Pair, scratch: Path, scores: Tensor):
    """The figures where photo i gets the scores of row i."""
    tested = PhotoTest(*catalogs, seed=0, scratch=scratch)
    rows = iter(scores.split(5))
    settings = {"resize": 36, "crop": 32, "batch_size": 5, "device": torch.device("cpu"), "workers": 0}
    return tested, tested.judge(lambda _: {"only": next(rows)}, ["only"], report=Report(), **settings)["only"]


def test_losses_are_torchs():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    single = torch.tensor([0, 2, 1, 1])
    assert classification_loss(logits, single) == F.cross_entropy(logits, single)
    many = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]])
    torch.testing.assert_close(classification_loss(logits, many), F.binary_cross_entropy_with_logits(logits, many))
    known = torch.tensor([[True, False, True]] * 4)
    torch.testing.assert_close(
        classification_loss(logits, torch.where(known, many, UNKNOWN)),
        F.binary_cross_entropy_with_logits(logits[known], many[known]),
    )


def test_accuracies_are_scikit_learns(stripes: Pair, tmp_path: Path):
    truth = np.asarray(stripes[1].classes)
    scores = np.random.default_rng(0).normal(size=(len(truth), 3)) + np.eye(3)[truth]
    tested, found = judged(stripes, tmp_path, torch.from_numpy(scores).float())
    assert tested.figures == ["top1", "mean_class"], "there are three classes"
    assert found["top1"].value == pytest.approx(top_k_accuracy_score(truth, scores, k=1), abs=1e-6)
    assert found["mean_class"].value == pytest.approx(balanced_accuracy_score(truth, scores.argmax(1)), abs=1e-6)
    low, high = found["top1"].interval
    assert low < found["top1"].value < high


def test_perfect_scores_are_100_percent_and_equal_scores_are_not(stripes: Pair, tmp_path: Path):
    right = F.one_hot(torch.tensor(np.asarray(stripes[1].classes), dtype=torch.long), 3).float()
    _, perfect = judged(stripes, tmp_path, right)
    assert {name: each.value for name, each in perfect.items()} == {"top1": 1, "mean_class": 1}
    assert perfect["top1"].chance == perfect["mean_class"].chance == pytest.approx(1 / 3)
    _, nothing = judged(stripes, tmp_path, torch.zeros(18, 3))
    assert nothing["top1"].value == 0


def test_map_is_that_of_each_class_on_the_photos_that_count(voc_catalogs: Pair, tmp_path: Path):
    labels = image_labels(voc_catalogs[1])
    scores = torch.rand(labels.shape, generator=torch.Generator().manual_seed(0))
    tested, found = judged(voc_catalogs, tmp_path, scores)
    assert tested.figures == ["map"]
    values = []
    for number, name in enumerate(voc_catalogs[1].categories):
        if f"ap {name}" in found:
            counts = labels[:, number] != IGNORED
            own = average_precision(scores.numpy()[counts, number], labels[counts, number] == POSITIVE)
            assert found[f"ap {name}"].value == pytest.approx(float(own), abs=1e-6)
            values.append(float(own))
    assert found["map"].value == pytest.approx(np.mean(values), abs=1e-6)
    _, perfect = judged(voc_catalogs, tmp_path, torch.from_numpy(labels).float())
    assert perfect["map"].value == pytest.approx(1)


def test_what_can_not_be_measured_is_refused(stripes: Pair, voc_catalogs: Pair, tmp_path: Path):
    with pytest.raises(ValueError, match="one has a class a photo, the other boxes"):
        PhotoTest(stripes[0], voc_catalogs[1], seed=0, scratch=tmp_path)
    with pytest.raises(FloatingPointError, match="scores are not finite: lower its learning rate"):
        judged(stripes, tmp_path, torch.full((18, 3), torch.nan))
