"""Linear classification of whole photos: one SVM a class on frozen features, as on VOC2007 in ORL and VISSL.

Source: Goyal et al. 2019 (arXiv:1905.01235), and the code of VISSL and OpenSelfSup, which ORL uses; LIBLINEAR's
shuffling is seeded here. `stages.evaluation.protocols.linear_svm` is that protocol. `evaluate` is what a run of
the pipeline does: on the global average of the last feature map (those codes pool 2 x 2 and quote the best layer) of
photos cropped in the middle (those codes squeeze them into a square).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from stages.data.catalog import Catalog
from stages.evaluation import photo_labels
from stages.evaluation.embeddings import Embeddings
from stages.evaluation.estimates import Estimate, Figure, Outcome, mean_estimate
from stages.evaluation.photo_labels import IGNORED, POSITIVE, ClassPrecision, image_labels, left_out
from stages.evaluation.svm import MAX_ITERATIONS, TurnedRows, fit, fitting_pool, turn_rows
from stages.process import ordered_map
from stages.report import Report

FOLDS = 3
# What training makes of photos that hold only difficult objects of a class; see `training_sets`.
DIFFICULT = ("reference", "corrected")

FIGURES = {
    "map": Figure(
        "linear SVM mAP",
        "A linear classifier for each class is trained on frozen features of whole photos; mean over the classes of "
        "the average precision on the test photos.",
        metric="linear_svm",
    )
}


class Trial(NamedTuple):
    """One fit of the search for a cost: without one of FOLDS parts of the training photos."""

    cls: int
    fold: int
    cost: float


class Quality(NamedTuple):
    """What a trial found: scikit-learn's average precision on the part left out; iterations of LIBLINEAR."""

    precision: float
    iterations: int


class TrainingSet(NamedTuple):
    """What the classifier of one class learns from. photos: (n,) int64. positive: (n,) bool."""

    photos: np.ndarray
    positive: np.ndarray


@dataclass(frozen=True)
class ClassResult:
    """One class: scores (M,) float64 of the test photos, the cost that was chosen, and how many fits ran into
    MAX_ITERATIONS."""

    scores: np.ndarray
    cost: float
    fits: int
    unconverged: int


def measurable_classes(train: Catalog, test: Catalog) -> np.ndarray:
    """Numbers of the classes that can be measured: training needs FOLDS photos with and FOLDS photos without the class,
    one for each fold; testing needs a photo with it.

    Raises:
        ValueError: the two catalogs have different categories, or no class can be measured.
    """
    return photo_labels.measurable_classes(train, test, FOLDS)


def training_sets(labels: np.ndarray, classes: np.ndarray, difficult: str) -> dict[int, TrainingSet]:
    """What each class learns from. labels: (N, all classes) of `image_labels`.

    Args:
        difficult: "reference": photos with only difficult objects of the class are negatives, as the codes of VISSL
            and OpenSelfSup happen to treat them. "corrected": they are left out, as in testing.

    Raises:
        ValueError: no such way.
    """
    if difficult not in DIFFICULT:
        raise ValueError(f"difficult '{difficult}' is not known. Choose one of {', '.join(DIFFICULT)}.")
    sets = {}
    for c in classes.tolist():
        used = labels[:, c] != IGNORED if difficult == "corrected" else np.ones(len(labels), dtype=bool)
        photos = np.flatnonzero(used)
        sets[c] = TrainingSet(photos, labels[photos, c] == POSITIVE)
    return sets


def classify(
    rows: TurnedRows,
    sets: Mapping[int, TrainingSet],
    *,
    costs: Sequence[float],
    seed: int,
    workers: int,
    known: Mapping[Trial, Quality] | None = None,
    found: Callable[[Trial, Quality], None] = lambda trial, quality: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, ClassResult]:
    """Chooses the cost of each class by cross-validation, fits on its training set and scores the test photos.

    Three stratified folds without shuffling; the cost with the largest mean of scikit-learn's average precision wins,
    the earlier one on a tie.

    Args:
        sets: at least FOLDS photos of either kind for each class.
        workers: processes.
        known: trials that a former run has made already. found: is told of each other one.
        progress: is told how many of all fits are done.
    """
    folds = {c: list(StratifiedKFold(FOLDS).split(each.photos, each.positive)) for c, each in sets.items()}
    trials = [Trial(c, f, cost) for cost in costs for c in sets for f in range(FOLDS)] if len(costs) > 1 else []
    qualities = {trial: known[trial] for trial in trials if trial in known} if known else {}
    # Large costs take longest, so they come first: no core has to wait long for another one at the end.
    open_trials = sorted((t for t in trials if t not in qualities), key=lambda trial: -trial.cost)
    fits = len(trials) + len(sets)
    processes, window = fitting_pool(fits * rows.train.size, workers)
    results = {}
    with processes:
        tasks = ((t.cost, *_parts(sets[t.cls], folds[t.cls][t.fold])) for t in open_trials)
        tried = ordered_map(processes, partial(_try, rows, seed), tasks, window)
        for trial, quality in zip(open_trials, tried, strict=True):
            qualities[trial] = quality
            found(trial, quality)
            progress(len(qualities), fits)
        chosen = {c: costs[_best(c, qualities, costs)] if trials else costs[0] for c in sets}
        scored = ordered_map(
            processes, partial(_score, rows, seed), ((chosen[c], *each) for c, each in sets.items()), window
        )
        for c, (scores, iterations) in zip(sets, scored, strict=True):
            spent = [iterations, *(q.iterations for t, q in qualities.items() if t.cls == c)]
            results[c] = ClassResult(scores, chosen[c], len(spent), sum(each >= MAX_ITERATIONS for each in spent))
            progress(len(trials) + len(results), fits)
    return results


def _parts(each: TrainingSet, fold: tuple[np.ndarray, np.ndarray]) -> Iterator[np.ndarray]:
    """Photos that are kept and whether they are positive, then the same of those left out."""
    for part in fold:
        yield from (each.photos[part], each.positive[part])


def _try(rows: TurnedRows, seed: int, task: tuple[float, np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> Quality:
    cost, kept, positive, held, held_positive = task
    svm = fit(rows.train[kept], positive, cost, seed)
    precision = average_precision_score(held_positive, rows.train[held] @ svm.weights + svm.intercept)
    return Quality(float(precision), svm.iterations)


def _score(rows: TurnedRows, seed: int, task: tuple[float, np.ndarray, np.ndarray]) -> tuple[np.ndarray, int]:
    cost, photos, positive = task
    svm = fit(rows.train[photos], positive, cost, seed)
    return rows.test @ svm.weights + svm.intercept, svm.iterations


def _best(cls: int, qualities: Mapping[Trial, Quality], costs: Sequence[float]) -> int:
    """Place of the best cost."""
    means = [np.mean([qualities[Trial(cls, fold, cost)].precision for fold in range(FOLDS)]) for cost in costs]
    return int(np.argmax(means))


def part_progress(report: Report, part: int, parts: int, done: int, fits: int) -> None:
    """Reports `done` of `fits` fits of part number `part` of `parts`, all of them alike."""
    report.progress(part * fits + done, parts * fits, "classifiers")


def notes_on(results: Mapping[int, ClassResult], name: str) -> list[str]:
    """Which costs were chosen for `name`, and whether fits ran out of iterations."""
    chosen = Counter(result.cost for result in results.values())
    notes = [f"Costs chosen for {name}: {', '.join(f'{c:.3g} ({n})' for c, n in sorted(chosen.items()))}."]
    fits, unconverged = (sum(getattr(each, field) for each in results.values()) for field in ("fits", "unconverged"))
    if unconverged:
        notes.append(
            f"{unconverged} of {fits} SVM fits for {name} stopped at {MAX_ITERATIONS} iterations before they had "
            "converged, as in the reference; large costs do that."
        )
    return notes


def evaluate(
    train: Mapping[str, Embeddings],
    test: Mapping[str, Embeddings],
    train_catalog: Catalog,
    test_catalog: Catalog,
    *,
    costs: Sequence[float],
    resize: int,
    crop: int,
    seed: int,
    workers: int,
    report: Report,
) -> Outcome:
    """mAP of every encoder. As in the reference, photos with only difficult objects of a class are negatives in
    training and are left out in testing.

    Raises:
        ValueError: see `measurable_classes`.
    """
    classes = measurable_classes(train_catalog, test_catalog)
    names = train_catalog.categories
    sets = training_sets(image_labels(train_catalog), classes, "reference")
    precision = ClassPrecision(image_labels(test_catalog), classes, seed=seed)
    values: dict[str, dict[str, Estimate]] = {"map": {}}
    notes = [f"mAP is over {len(classes)} classes.", *left_out(names, classes)]
    for number, encoder in enumerate(train):
        with TemporaryDirectory() as scratch:
            results = classify(
                turn_rows(train[encoder].features, test[encoder].features, Path(scratch)), sets,
                costs=costs, seed=seed, workers=workers,
                progress=partial(part_progress, report, number, len(train)),
            )  # fmt: skip
        estimates = {c: precision.estimate(c, result.scores) for c, result in results.items()}
        for c, estimate in estimates.items():
            values.setdefault(f"ap {names[c]}", {})[encoder] = estimate
        values["map"][encoder] = mean_estimate(list(estimates.values()))
        notes += notes_on(results, encoder)
    settings = {
        "features": "gap",
        "resize": resize,
        "crop": crop,
        "costs": list(costs),
        "folds": FOLDS,
        "max_iterations": MAX_ITERATIONS,
        "train": train_catalog.directory.name,
        "train_images": len(train_catalog),
        "test_images": len(test_catalog),
        "only_difficult": "negative in train, ignored in test",
    }
    return Outcome("linear_svm", test_catalog.directory.name, settings, FIGURES, values, notes)
