"""Weighted k-nearest-neighbour classification of whole photos: no training, no setting but k and the temperature.

Wu et al. 2018 (InstDisc, arXiv:1805.01978), section 3.4, and Caron et al. 2021 (DINO, arXiv:2104.14294), appendix F.1:
the k training photos of the largest cosine similarity s vote for their class with weight exp(s / T), T = 0.07. InstDisc
takes k = 200; DINO finds 20 best.

Photos that show several classes (VOC, COCO) have a vote for each of them; a class is then ranked by its share of all
votes, and the figure is the mean of the average precision. That is ours: the papers classify ImageNet alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from stages.data.catalog import Catalog, Roots
from stages.evaluation.estimates import Estimate, Figure, Outcome, mean_estimate, resample_counts, weighted_mean
from stages.evaluation.features import describe_features, open_features
from stages.evaluation.metrics.average_precision import Interpolation
from stages.evaluation.photo_labels import (
    POSITIVE,
    ClassPrecision,
    image_labels,
    left_out,
    measurable_classes,
    shared_categories,
)
from stages.evaluation.saved import THIS, save_outcome
from stages.learning.devices import resolve_device
from stages.report import Report

_QUERIES, _ROWS = 1024, 16384  # of the similarities that are in memory at once: 64 MB
_QUERY_BYTES = 2**29


def run(
    *,
    out: Path,
    report: Report,
    features_train: Path,
    features_test: Path,
    train: Path,
    train_root: Roots,
    test: Path,
    test_root: Roots,
    depth: str,
    neighbors: Sequence[int],
    temperature: float,
    ap: Interpolation,
    seed: int,
    device: str,
) -> None:
    """Writes the outcome: for each k the top-1 accuracy where photos have one class, mAP where they show several.

    Args:
        features_train, features_test: artifacts of `stages.evaluation.features`.
        train, train_root, test, test_root: the labelled catalogs that these are of.
        depth: which of their depths; the papers take "gap".
        neighbors: each k.
        temperature: T.
        ap: "area" or "11_point", of photos that show several classes.
        seed: of the bootstrap.

    Raises:
        ValueError: k is not between 1 and the number of training photos, T is not above 0, or labels do not fit.
    """
    photos, tested = Catalog(train, train_root), Catalog(test, test_root)
    if not neighbors or not 1 <= min(neighbors) <= max(neighbors) <= len(photos):
        raise ValueError(f"neighbors={list(neighbors)}: name one k at least, each within 1 .. {len(photos)} photos.")
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} weighs no neighbour: it must be above 0, as 0.07.")
    names = shared_categories(photos, tested)
    rows, queries = open_features(features_train, depth, photos), open_features(features_test, depth, tested)
    single = photos.classes is not None and tested.classes is not None
    classes = None if single else measurable_classes(photos, tested, least=1, least_without=0)
    found = nearest(rows, queries, max(neighbors), device=resolve_device(device), report=report)
    values: dict[str, dict[str, Estimate]] = {}
    if classes is None:
        values |= _accuracies(photos, tested, found, neighbors, temperature, seed)
        unnamed = int((np.asarray(tested.classes) < 0).sum())
        notes = [f"{unnamed} test photos without a class are left out."] if unnamed else []
    else:
        precision = ClassPrecision(image_labels(tested), classes, interpolation=ap, seed=seed)
        present = image_labels(photos)[:, classes] == POSITIVE
        for k in neighbors:
            shares = class_shares(found.first(k), present, temperature)
            estimates = [precision.estimate(c, column) for c, column in zip(classes, shares.T, strict=True)]
            values[f"map k={k}"] = {THIS: mean_estimate(estimates)}
            values |= {f"ap {names[c]} k={k}": {THIS: each} for c, each in zip(classes, estimates, strict=True)}
        notes = [f"mAP is over {len(classes)} classes.", *left_out(names, classes)]
    settings = describe_features(features_test) | {
        "depth": depth,
        "neighbors": list(neighbors),
        "temperature": temperature,
        "train": photos.directory.name,
        "train_photos": len(photos),
    }
    settings |= {} if single else {"ap": ap}
    figures = _figures(neighbors, single)
    save_outcome(Outcome("knn", tested.directory.name, settings, figures, values, notes), out)
    report.metric(**{key.replace(" k=", "_"): values[key][THIS].value for key in figures})


class Neighbors(NamedTuple):
    """The training photos nearest to each test photo, nearest first.

    similarity: (M, k) float32. photos: (M, k) int64.
    """

    similarity: np.ndarray
    photos: np.ndarray

    def first(self, k: int) -> Neighbors:
        return Neighbors(self.similarity[:, :k], self.photos[:, :k])


@torch.inference_mode()
def nearest(rows: np.ndarray, queries: np.ndarray, k: int, *, device: torch.device, report: Report) -> Neighbors:
    """The k rows of the largest cosine similarity to each query. rows: (N, D), queries: (M, D), both memory-mapped.

    Each row is read once for as many queries as fit into half a gigabyte, so memory grows with M by the result alone.
    """
    similarity = torch.full((len(queries), k), -torch.inf)
    photos = torch.full((len(queries), k), -1)
    together = max(1, _QUERY_BYTES // queries[0].nbytes)
    passes, blocks = range(0, len(queries), together), range(0, len(rows), _ROWS)
    for number, start in enumerate(passes):
        asked = _units(queries[start : start + together], device)
        best = similarity[start : start + together].to(device), photos[start : start + together].to(device)
        for block, first in enumerate(blocks):
            units = _units(rows[first : first + _ROWS], device)
            for at in range(0, len(asked), _QUERIES):
                part = slice(at, at + _QUERIES)
                _merge(best[0][part], best[1][part], asked[part] @ units.T, first)
            report.progress(number * len(blocks) + block + 1, len(passes) * len(blocks), "blocks of photos")
        similarity[start : start + together], photos[start : start + together] = best[0].cpu(), best[1].cpu()
    return Neighbors(similarity.numpy(), photos.numpy())


def _units(rows: np.ndarray, device: torch.device) -> Tensor:
    return normalize(torch.from_numpy(np.array(rows)).to(device), dim=1)


def _merge(similarity: Tensor, photos: Tensor, others: Tensor, first: int) -> None:
    """Keeps the k best of both, in place. similarity, photos: (m, k). others: (m, n), to the photos from `first` on."""
    k = similarity.shape[1]
    top, places = others.topk(min(k, others.shape[1]), dim=1)
    together = torch.cat([similarity, top], dim=1)
    kept = together.topk(k, dim=1)
    similarity.copy_(kept.values)
    photos.copy_(torch.cat([photos, places + first], dim=1).gather(1, kept.indices))


def class_shares(found: Neighbors, present: np.ndarray, temperature: float) -> np.ndarray:
    """Each class's share of all votes. present: (N, C) bool, what the training photos show. (M, C) float64."""
    shares = np.empty((len(found.photos), present.shape[1]))
    for at in range(0, len(shares), _QUERIES):
        part = slice(at, at + _QUERIES)
        weights = _weights(found.similarity[part], temperature)
        votes = np.einsum("mk,mkc->mc", weights / weights.sum(axis=1, keepdims=True), present[found.photos[part]])
        shares[part] = votes.round(9)  # all votes are all votes, whatever the order in which they were summed
    return shares


def predicted_class(found: Neighbors, classes: np.ndarray, number: int, temperature: float) -> np.ndarray:
    """The class of most votes, the lower number on a tie; -1 where nobody votes. (M,) int64.

    Args:
        classes: (N,) int: of each training photo, below `number`; -1 has no vote.
    """
    predicted = np.empty(len(found.photos), np.int64)
    for at in range(0, len(predicted), _QUERIES):
        part = slice(at, at + _QUERIES)
        weights, voted = _weights(found.similarity[part], temperature), classes[found.photos[part]]
        votes = np.zeros((len(voted), number + 1))  # the last column takes what has no vote
        np.add.at(votes, (np.arange(len(voted))[:, None], voted), weights)
        predicted[part] = np.where(votes[:, :-1].any(axis=1), votes[:, :-1].argmax(axis=1), -1)
    return predicted


def _weights(similarity: np.ndarray, temperature: float) -> np.ndarray:
    """exp(s / T) up to a factor a row, which no share depends on. (m, k) float64."""
    exponents = similarity.astype(np.float64) / temperature
    return np.exp(exponents - exponents.max(axis=1, keepdims=True))


def _accuracies(
    photos: Catalog, tested: Catalog, found: Neighbors, neighbors: Sequence[int], temperature: float, seed: int
) -> dict[str, dict[str, Estimate]]:
    classes, truth = np.asarray(photos.classes), np.asarray(tested.classes)
    number = len(photos.categories)
    known = truth >= 0
    if not known.any():
        raise ValueError(f"no photo of {tested.root} has a class to be tested on: test on another split.")
    counts = resample_counts(len(tested), seed)[:, known]
    shares = [np.bincount(each[each >= 0], minlength=number) / len(each) for each in (classes, truth[known])]
    chance = float(shares[0] @ shares[1])  # of the class of a training photo drawn at random
    values = {}
    for k in neighbors:
        hits = (predicted_class(found.first(k), classes, number, temperature) == truth)[known]
        values[f"top1 k={k}"] = {THIS: Estimate(float(hits.mean()), chance, weighted_mean(hits.astype(float), counts))}
    return values


def _figures(neighbors: Sequence[int], single: bool) -> dict[str, Figure]:
    name, what = ("top1", "accuracy") if single else ("map", "mAP")
    meaning = (
        "Share of the test photos whose class the nearest training photos name"
        if single
        else "Mean over the classes of the average precision of their share of the votes of the nearest training photos"
    )
    return {
        f"{name} k={k}": Figure(f"{k}-NN {what}", f"{meaning}; {k} of them vote, by similarity.", metric=f"knn_{k}")
        for k in neighbors
    }
