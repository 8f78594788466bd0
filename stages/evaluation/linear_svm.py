"""Linear classification of whole photos: one SVM a class on frozen features, as on VOC2007 in ORL and VISSL.

Source: Goyal et al. 2019 (arXiv:1905.01235), and the code of VISSL and OpenSelfSup, which ORL uses. Where this differs:
features are the global average of the last feature map (those codes pool 2 x 2 and quote the best layer), photos are
cropped in the middle (those codes squeeze them into a square), LIBLINEAR's shuffling is seeded.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from stages.data.catalog import Catalog
from stages.evaluation.average_precision import average_precision, chance_average_precision
from stages.evaluation.embeddings import Embeddings
from stages.evaluation.estimates import Estimate, Figure, Outcome, mean_estimate, resample_counts
from stages.report import Report

FOLDS = 3
MAX_ITERATIONS = 2000

POSITIVE, IGNORED, NEGATIVE = 1, 0, -1

FIGURES = {
    "map": Figure(
        "linear SVM mAP",
        "A linear classifier for each class is trained on frozen features of whole photos; mean over the classes of "
        "the average precision on the test photos.",
        metric="linear_svm",
    )
}


@dataclass(frozen=True)
class ClassResult:
    """One class: scores (N_test,) float64, the cost that was chosen, and how many fits ran into MAX_ITERATIONS."""

    scores: np.ndarray
    cost: float
    fits: int
    unconverged: int


def image_labels(catalog: Catalog) -> np.ndarray:
    """(N, classes) int8: POSITIVE with at least one object of the class that is not difficult, IGNORED with difficult
    objects only, else NEGATIVE. A crowd counts as an object: the class is in the photo."""
    labels = np.full((len(catalog), len(catalog.categories)), NEGATIVE, dtype=np.int8)
    objects = catalog.labels
    image, category = objects["image"].to_numpy(), objects["category"].to_numpy()
    difficult = objects["difficult"].to_numpy(dtype=bool)
    labels[image[difficult], category[difficult]] = IGNORED
    labels[image[~difficult], category[~difficult]] = POSITIVE
    return labels


def scaled_rows(features: np.ndarray) -> np.ndarray:
    """x / (||x|| + 1e-5) in float64, as in the reference."""
    features = features.astype(np.float64)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-5)


def classify(
    train: np.ndarray, positive: np.ndarray, test: np.ndarray, *, costs: Sequence[float], seed: int
) -> ClassResult:
    """Chooses the cost by cross-validation, fits on all training rows and scores the test rows.

    Three stratified folds without shuffling; the cost with the largest mean of sklearn's average precision wins, the
    earlier one on a tie. LIBLINEAR: l2 penalty, squared hinge, dual, weights 2 for positives and 1 for negatives.

    Args:
        train: (N, C) float64 rows of length one. positive: (N,) bool, at least FOLDS of either kind.
        test: (M, C) float64.
    """
    iterations: list[int] = []

    def fit(rows: np.ndarray, truth: np.ndarray, cost: float) -> LinearSVC:
        # class_weight by the labels -1 and 1, so that they are the same as in the reference.
        svm = LinearSVC(
            C=cost, class_weight={1: 2, -1: 1}, max_iter=MAX_ITERATIONS, dual=True, tol=1e-4, random_state=seed
        )
        svm.fit(rows, truth)
        iterations.append(int(svm.n_iter_))
        return svm

    truth = np.where(positive, 1, -1)
    cost = costs[0]
    if len(costs) > 1:
        folds = list(StratifiedKFold(FOLDS).split(train, truth))
        quality = [
            np.mean(
                [
                    average_precision_score(
                        truth[held], fit(train[kept], truth[kept], cost).decision_function(train[held])
                    )
                    for kept, held in folds
                ]
            )
            for cost in costs
        ]
        cost = costs[int(np.argmax(quality))]
    scores = fit(train, truth, cost).decision_function(test)
    return ClassResult(scores, cost, len(iterations), sum(n >= MAX_ITERATIONS for n in iterations))


def measurable_classes(train: Catalog, test: Catalog) -> np.ndarray:
    """Numbers of the classes that can be measured: training needs FOLDS photos with and FOLDS photos without the class,
    one for each fold; testing needs a photo with it.

    Raises:
        ValueError: the two catalogs have different categories, or no class can be measured.
    """
    if train.categories != test.categories:
        raise ValueError(
            f"train has the categories {train.categories}, test has {test.categories}. A classifier can only be tested "
            "on the classes it was trained on: give two splits of one data set."
        )
    with_class = (image_labels(train) == POSITIVE).sum(axis=0)
    enough = (with_class >= FOLDS) & (len(train) - with_class >= FOLDS)
    classes = np.flatnonzero(enough & (image_labels(test) == POSITIVE).any(axis=0))
    if len(classes) == 0:
        raise ValueError(
            f"no class has {FOLDS} photos with and {FOLDS} without it in train and one photo with it in test. "
            "Evaluate on more photos, or leave train and test out of the evaluation section."
        )
    return classes


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
    threads: int,
    report: Report,
) -> Outcome:
    """mAP of every encoder. As in the reference, photos with only difficult objects of a class are negatives in
    training and are left out in testing.

    Raises:
        ValueError: see `measurable_classes`.
    """
    classes = measurable_classes(train_catalog, test_catalog)
    names = train_catalog.categories
    train_labels, test_labels = image_labels(train_catalog), image_labels(test_catalog)
    counts = resample_counts(len(test_catalog), seed)
    chance = _chance(test_labels[:, classes], seed)
    values: dict[str, dict[str, Estimate]] = {"map": {}}
    notes = [f"mAP is over {len(classes)} classes."]
    fits = unconverged = 0
    for number, (encoder, embeddings) in enumerate(train.items()):
        rows, test_rows = scaled_rows(embeddings.features), scaled_rows(test[encoder].features)

        def one_class(c: int, rows: np.ndarray = rows, test_rows: np.ndarray = test_rows) -> ClassResult:
            return classify(rows, train_labels[:, c] == POSITIVE, test_rows, costs=costs, seed=seed)

        # LIBLINEAR releases the interpreter lock. Fits that don't converge are counted below, not printed one by one.
        with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
            warnings.simplefilter("ignore", ConvergenceWarning)
            results = []
            for done, result in enumerate(pool.map(one_class, classes), start=1):
                results.append(result)
                report.progress(number * len(classes) + done, len(train) * len(classes), "classifiers")
        estimates = []
        for c, result, guess in zip(classes, results, chance, strict=True):
            tested = test_labels[:, c] != IGNORED
            positive = test_labels[tested, c] == POSITIVE
            value = float(average_precision(result.scores[tested], positive))
            resamples = average_precision(result.scores[tested], positive, counts[:, tested])
            estimates.append(Estimate(value, guess, resamples))
            values.setdefault(f"ap {names[c]}", {})[encoder] = estimates[-1]
        values["map"][encoder] = mean_estimate(estimates)
        chosen = Counter(result.cost for result in results)
        notes.append(f"Costs chosen for {encoder}: {', '.join(f'{c:.3g} ({n})' for c, n in sorted(chosen.items()))}.")
        fits += sum(result.fits for result in results)
        unconverged += sum(result.unconverged for result in results)

    left_out = [name for c, name in enumerate(names) if c not in classes]
    if left_out:
        notes.append(
            f"Left out of mAP, because train holds fewer than {FOLDS} photos with or without the class or test holds "
            f"none with it: {', '.join(left_out)}."
        )
    if unconverged:
        notes.append(
            f"{unconverged} of {fits} SVM fits stopped at {MAX_ITERATIONS} iterations before they had converged, as "
            "in the reference; large costs do that."
        )
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


def _chance(labels: np.ndarray, seed: int) -> list[float]:
    """Average precision of a random ranking for each class. labels: (M, classes) of `image_labels`."""
    rng = np.random.default_rng(seed)
    return [
        chance_average_precision(int((column == POSITIVE).sum()), int((column != IGNORED).sum()), rng)
        for column in labels.T
    ]
