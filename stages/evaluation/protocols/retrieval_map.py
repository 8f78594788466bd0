"""Retrieval: does an encoder put photos that show the same, and objects of the same class, next to each other?

Every photo asks for the others, every labelled object for those of other photos (an object of its own photo would be
found by its surroundings), by the cosine of their features; the figure is the mean of the average precisions.

Photos show several classes, so what is relevant needs a rule. `photo_map` counts a photo that shares at least one class
with the query, as image hashing does on COCO and NUS-WIDE (Cao et al. 2017, HashNet, section 4.1). In scenes that is
easily fulfilled, half of COCO's photos show a person, so chance is high and frequent classes decide. `photo_map_macro`
therefore asks once for each class of the query and averages over classes. Classes that a photo shows only as difficult
objects make it neither relevant nor irrelevant: it is left out of that ranking.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from stages.data.catalog import Catalog, Roots
from stages.data.objects import MIN_SIDE, in_two_photos, measured_objects, object_views
from stages.evaluation.drawn_features import drawn_features
from stages.evaluation.encoders import open_backbone
from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.evaluation.features import open_features
from stages.evaluation.metrics.retrieval_ap import average_precisions, chance_average_precision, similarities
from stages.evaluation.object_neighbors import shares
from stages.evaluation.photo_labels import IGNORED, NEGATIVE, POSITIVE, image_labels
from stages.evaluation.pictures import evenly_spread
from stages.evaluation.saved import THIS, save_outcome
from stages.process import available_cores
from stages.report import Report

FIGURES = {
    "photo_map": Figure(
        "photo retrieval mAP",
        "Each photo asks for those that share a class with it, ranked by cosine; mean of the average precisions.",
        metric="photo_retrieval",
    ),
    "photo_map_macro": Figure(
        "photo retrieval mAP, mean of classes",
        "Each photo asks for each of its classes in turn; mean over classes, so that frequent ones don't decide alone.",
    ),
    "object_map": Figure(
        "object retrieval mAP",
        "Each labelled object asks for those of its class in other photos, ranked by cosine.",
        metric="object_retrieval",
    ),
    "object_map_macro": Figure("object retrieval mAP, mean of classes", "The same, averaged over classes."),
    "object_top1": Figure(
        "same-class share", "Share of the labelled objects whose most similar object in another photo has their class."
    ),
    "object_top1_macro": Figure("same-class share, mean of classes", "The same, averaged over classes."),
}


@dataclass(frozen=True)
class _Answers:
    """What some queries got. All (Q,): the photo and the class that each stands for; its AP, and that of guessing;
    whether the most similar picture was relevant, and how likely that is by guessing."""

    images: np.ndarray
    categories: np.ndarray
    precision: np.ndarray
    chance: np.ndarray
    first: np.ndarray
    chance_first: np.ndarray


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any],
    features_test: Path,
    test: Path,
    test_root: Roots,
    depth: str,
    object_size: int,
    queries: int,
    batch_size: int,
    seed: int,
    device: str,
    workers: int,
) -> None:
    """Ranks photos by their features at `depth`, and, where objects are labelled, objects by the global average of the
    last feature map, for which their photos are read. Writes `objects.npy`, (objects, C) float32, too.

    Args:
        encoder: arguments of `open_backbone`.
        features_test: artifact of step `features` on `test`.
        test, test_root: labelled catalog and the folder of its photos.
        object_size: side to which the box of an object is squeezed; pixels.
        queries: at most so many photos, and so many objects, ask; evenly spread. All others can be found.
        workers: processes that draw objects; 0: one a core.

    Raises:
        ValueError: there are no labels, no class is in two photos, or the features are of other photos.
    """
    catalog = Catalog(test, test_root)
    labels = photo_labels(catalog)
    found = photo_estimates(open_features(features_test, depth, catalog), labels, queries=queries, seed=seed)
    settings: dict[str, Any] = {"photos": len(catalog), "depth": depth, "queries": queries}
    if catalog.has_labels:
        objects = measured_objects(catalog)
        views = object_views(objects, object_size)
        rows = drawn_features(
            out / "objects.npy", out / "scratch" / "objects", open_backbone(**encoder), catalog, views.__getitem__,
            len(views), batch_size=batch_size, device=device, workers=workers or available_cores(), report=report,
        )  # fmt: skip
        images, categories = objects["image"].to_numpy(), objects["category"].to_numpy()
        asked = np.flatnonzero(in_two_photos(objects))
        asked = asked[evenly_spread(len(asked), queries)]
        found |= object_estimates(rows, images, categories, asked, seed=seed)
        settings |= {"object_size": object_size, "min_side": MIN_SIDE, "objects": len(objects)}
    figures = {key: figure for key, figure in FIGURES.items() if key in found}
    values = {key: {THIS: found[key]} for key in figures}
    save_outcome(Outcome("retrieval_map", test.name, settings, figures, values), out)
    report.metric(**{figure.metric: found[key].value for key, figure in figures.items() if figure.metric})


def photo_labels(catalog: Catalog) -> np.ndarray:
    """(N, classes) int8, see `image_labels`; of data sets with a class a photo, that class alone.

    Raises:
        ValueError: the data set has neither.
    """
    if catalog.has_labels or catalog.classes is None:
        return image_labels(catalog)
    labels = np.full((len(catalog), len(catalog.categories)), NEGATIVE, np.int8)
    known = np.flatnonzero(catalog.classes >= 0)
    labels[known, catalog.classes[known]] = POSITIVE
    return labels


def photo_estimates(features: np.ndarray, labels: np.ndarray, *, queries: int, seed: int) -> dict[str, Estimate]:
    """`photo_map` and `photo_map_macro`. features: (N, D). labels: (N, classes) int8.

    Raises:
        ValueError: no two photos share a class.
    """
    positive, maybe = labels == POSITIVE, labels == IGNORED
    several = positive.sum(axis=0) > 1
    shared = np.flatnonzero(positive[:, several].any(axis=1))
    if not len(shared):
        raise ValueError("no class is in two photos, so no photo can be found by another. Test on more photos.")
    asked = shared[evenly_spread(len(shared), queries)]
    # As numbers of a type that NumPy multiplies fast.
    certain, possible = positive.astype(np.float32), (labels != NEGATIVE).astype(np.float32)
    by_photo, by_class = [], []
    for part, similarity in similarities(features, asked):
        relevant = certain[part] @ certain.T > 0
        unclear = (possible[part] @ possible.T > 0) & ~relevant
        others = part[:, None] != np.arange(len(features))
        by_photo.append(_answers(part, np.zeros_like(part), similarity, relevant, others & ~unclear))
        for query, row, other in zip(part, similarity, others, strict=True):
            classes = np.flatnonzero(positive[query] & several)
            rows, allowed = np.tile(row, (len(classes), 1)), other & ~maybe.T[classes]
            by_class.append(_answers(np.full_like(classes, query), classes, rows, positive.T[classes], allowed))
    return {"photo_map": _means(by_photo, seed)["map"], "photo_map_macro": _means(by_class, seed)["map_macro"]}


def object_estimates(
    features: np.ndarray, images: np.ndarray, categories: np.ndarray, asked: np.ndarray, *, seed: int
) -> dict[str, Estimate]:
    """`object_map`, `object_top1` and their means of classes.

    Args:
        features: (N, D). images, categories: (N,) int, of each object. asked: (Q,) rows of those that ask, whose class
            is in another photo, too.
    """
    answers = []
    for part, similarity in similarities(features, asked):
        same, elsewhere = categories[part][:, None] == categories, images[part][:, None] != images
        answers.append(_answers(images[part], categories[part], similarity, same, elsewhere))
    return {f"object_{key}": estimate for key, estimate in _means(answers, seed).items()}


def _answers(
    images: np.ndarray, categories: np.ndarray, similarity: np.ndarray, relevant: np.ndarray, allowed: np.ndarray
) -> _Answers:
    """images, categories: (B,). similarity: (B, N). relevant, allowed: (B, N) bool, see `average_precisions`."""
    right, total = (relevant & allowed).sum(axis=1), allowed.sum(axis=1)
    best = np.where(allowed, similarity, -np.inf).argmax(axis=1)
    return _Answers(
        images=images,
        categories=categories,
        precision=average_precisions(similarity, relevant, allowed),
        chance=chance_average_precision(right, total),
        first=(relevant & allowed)[np.arange(len(best)), best],
        chance_first=right / np.maximum(total, 1),
    )


def _means(parts: list[_Answers], seed: int) -> dict[str, Estimate]:
    """`map`, `map_macro`, `top1` and `top1_macro`, with intervals over photos. A query that nothing answers (its class
    is elsewhere only as a difficult object) is not counted."""
    joined = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(_Answers)}
    asked = np.isfinite(joined["precision"])
    images, categories, precision, chance, first, chance_first = (column[asked] for column in joined.values())
    of_ranks = shares(precision, chance, images, categories, seed=seed)
    of_first = shares(first, chance_first, images, categories, seed=seed)
    return {
        "map": of_ranks["micro"],
        "map_macro": of_ranks["macro"],
        "top1": of_first["micro"],
        "top1_macro": of_first["macro"],
    }
