"""Linear SVMs on VOC07, the protocol of ORL's table 1 and of VISSL: a figure for each depth, and the best of them.

Goyal et al. 2019 (arXiv:1905.01235), section 6.1, and the codes of OpenSelfSup and VISSL.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stages.data.catalog import Catalog, Roots
from stages.evaluation.estimates import Estimate, Figure, Outcome, mean_estimate
from stages.evaluation.features import describe_features, open_features
from stages.evaluation.linear_svm import (
    FOLDS,
    ClassResult,
    Quality,
    Trial,
    classify,
    measurable_classes,
    notes_on,
    part_progress,
    training_sets,
)
from stages.evaluation.metrics.average_precision import Interpolation
from stages.evaluation.photo_labels import ClassPrecision, image_labels, left_out
from stages.evaluation.saved import THIS, save_outcome
from stages.evaluation.svm import MAX_ITERATIONS, cost_list, turn_rows
from stages.report import Report

SEARCH_FILE = "search.jsonl"


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
    depths: Sequence[str],
    costs: str | Sequence[float],
    difficult: str,
    ap: Interpolation,
    seed: int,
    workers: int,
) -> None:
    """Writes the outcome, and `search.jsonl`: each fit of the search, from which an interrupted run goes on.

    Figures: `map` is that of the best depth, as the papers quote it; `map DEPTH` is that of each. The best depth is
    chosen by the test photos, as there.

    Args:
        features_train, features_test: artifacts of `stages.evaluation.features`.
        train, train_root, test, test_root: the labelled catalogs that these are of.
        depths: which of their depths.
        costs: "openselfsup" (ORL's too), "vissl", or a list: what to choose from, for each class.
        difficult: "reference" or "corrected", see `linear_svm.training_sets`.
        ap: "area" (OpenSelfSup, VISSL, ORL) or "11_point" (BYOL).
        seed: of LIBLINEAR and the bootstrap.
        workers: processes.

    Raises:
        ValueError: catalogs, features and settings do not fit each other, or no class can be measured.
    """
    photos, tested = Catalog(train, train_root), Catalog(test, test_root)
    searched = cost_list(costs)
    names = photos.categories
    classes = measurable_classes(photos, tested)
    sets = training_sets(image_labels(photos), classes, difficult)
    precision = ClassPrecision(image_labels(tested), classes, interpolation=ap, seed=seed)
    rows = {depth: (open_features(features_train, depth, photos), open_features(features_test, depth, tested))
            for depth in depths}  # fmt: skip
    scratch = out / "scratch"
    results: dict[str, dict[int, ClassResult]] = {}
    with _SearchLog(out / SEARCH_FILE) as log:
        for number, (depth, (train_rows, test_rows)) in enumerate(rows.items()):
            results[depth] = classify(
                turn_rows(train_rows, test_rows, scratch), sets,
                costs=searched, seed=seed, workers=workers, known=log.known(depth), found=partial(log.write, depth),
                progress=partial(part_progress, report, number, len(rows)),
            )  # fmt: skip

    by_class = {depth: {c: precision.estimate(c, one.scores) for c, one in found.items()}
                for depth, found in results.items()}  # fmt: skip
    means = {depth: mean_estimate(list(estimates.values())) for depth, estimates in by_class.items()}
    best = max(means, key=lambda depth: means[depth].value)
    values: dict[str, dict[str, Estimate]] = {"map": {THIS: means[best]}}
    values |= {f"map {depth}": {THIS: mean} for depth, mean in means.items()}
    values |= {f"ap {names[c]}": {THIS: estimate} for c, estimate in by_class[best].items()}
    notes = [f"mAP is over {len(classes)} classes.", *left_out(names, classes)]
    notes += [f"Best depth: {best}. Average precision by class is at this depth."] if len(means) > 1 else []
    for depth, found in results.items():
        notes += notes_on(found, depth)
    settings = describe_features(features_test) | {
        "depths": list(depths),
        "costs": list(searched),
        "folds": FOLDS,
        "max_iterations": MAX_ITERATIONS,
        "difficult": difficult,
        "ap": ap,
        "train": photos.directory.name,
        "train_photos": len(photos),
    }
    save_outcome(Outcome("linear_svm", tested.directory.name, settings, _figures(means), values, notes), out)
    report.metric(map=means[best].value, best_depth=best)


def _figures(means: dict[str, Estimate]) -> dict[str, Figure]:
    meaning = (
        "A linear SVM for each class is trained on frozen features of whole photos; mean over the classes of the "
        "average precision on the test photos."
    )
    figures = {"map": Figure("linear SVM mAP", f"{meaning} At the best depth.", metric="linear_svm")}
    if len(means) > 1:
        figures |= {f"map {depth}": Figure(f"linear SVM mAP, {depth}", f"The same at {depth}.") for depth in means}
    return figures


class _SearchLog:
    """One line a trial: depth, class (number of the category), fold, cost, precision, iterations."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b", buffering=0)
        self._file.seek(0)
        whole, _, _ = self._file.read().rpartition(b"\n")  # a kill may have cut off the last line
        self._file.truncate(len(whole) + 1 if whole else 0)
        self._records: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def __enter__(self) -> _SearchLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def known(self, depth: str) -> dict[Trial, Quality]:
        return {
            Trial(each["class"], each["fold"], each["cost"]): Quality(each["precision"], each["iterations"])
            for each in self._records
            if each["depth"] == depth
        }

    def write(self, depth: str, trial: Trial, quality: Quality) -> None:
        record = {"depth": depth, "class": trial.cls, "fold": trial.fold, "cost": trial.cost, **quality._asdict()}
        self._file.write(json.dumps(record).encode() + b"\n")
