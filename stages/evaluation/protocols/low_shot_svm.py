"""Low-shot classification of VOC07: SVMs that have seen k photos of a class, k from 1 to 96 (ORL, table 2).

Goyal et al. 2019 (arXiv:1905.01235), section 6.2, and the codes of OpenSelfSup and VISSL: for each class k photos with
it and (C - 1) k without it, five draws, all costs; one cost for each k, the same for all classes and draws, is chosen
by the mean average precision on the *test* photos. That is the figure `map k=...`, to stand beside published ones.
`clean map k=...` does not look at the test photos for that: it takes the cost that is best on the training photos that
the draws left out. A cross-validation among those drawn can't choose, as one photo of a class cannot be divided.

Those codes draw unseeded, so that published numbers differ by some points at k = 1. Here draws are fixed: see
`low_shot_draws.drawn`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.data.catalog import Catalog, Roots
from stages.evaluation.estimates import Estimate, Figure, Outcome, mean_estimate
from stages.evaluation.features import describe_features, open_features
from stages.evaluation.low_shot_draws import (
    DRAWN,
    DRAWS,
    Sample,
    draw_samples,
    photos_drawn,
    possible_shots,
    samples_table,
)
from stages.evaluation.metrics.average_precision import Interpolation, average_precision
from stages.evaluation.photo_labels import (
    IGNORED,
    POSITIVE,
    ClassPrecision,
    image_labels,
    left_out,
    measurable_classes,
)
from stages.evaluation.saved import THIS, save_outcome
from stages.evaluation.svm import MAX_ITERATIONS, TurnedRows, cost_list, fit, fitting_pool, turn_rows
from stages.process import ordered_map
from stages.report import Report

SAMPLES_FILE = "samples.parquet"


class _Task(NamedTuple):
    """The fits of one class and draw, one a cost."""

    k: int
    cls: int
    draw: int

    def file(self, folder: Path) -> Path:
        return folder / f"k{self.k}_class{self.cls}_draw{self.draw}.npz"


class _Rows(NamedTuple):
    """What a task needs. chosen, positive: (n,) photos that were drawn, and whether they show the class. rest,
    rest_positive: (r,) the same of all other training photos. test: (M,) labels of the test photos."""

    chosen: np.ndarray
    positive: np.ndarray
    rest: np.ndarray
    rest_positive: np.ndarray
    test: np.ndarray


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
    shots: Sequence[int],
    costs: str | Sequence[float],
    ap: Interpolation,
    seed: int,
    workers: int,
) -> None:
    """Writes the outcome and `samples.parquet` (draw, class, positive, rank, photo), of which k takes the first k
    positives and the first (C - 1) k others. An interrupted run goes on after the fits that it has finished.

    Args:
        features_train, features_test: artifacts of `stages.evaluation.features`.
        train, train_root, test, test_root: the labelled catalogs that these are of.
        depth: which of their depths.
        shots: each k. Those for which some class has too few photos are left out, which a note says.
        costs: see `stages.evaluation.svm.COSTS`.
        ap: "area" or "11_point".
        seed: of LIBLINEAR and the bootstrap; the draws do not depend on it.
        workers: processes.

    Raises:
        ValueError: catalogs, features and settings do not fit each other, or no k is possible.
    """
    photos, tested = Catalog(train, train_root), Catalog(test, test_root)
    searched = cost_list(costs)
    classes = measurable_classes(photos, tested, least=1)
    labels = image_labels(photos)
    possible = possible_shots(shots, labels[:, classes])
    test_labels = image_labels(tested)
    samples = draw_samples(photos, labels, classes, max(possible))
    samples_table(samples, photos).to_parquet(out / SAMPLES_FILE, index=False)
    scratch = out / "scratch"
    rows = turn_rows(open_features(features_train, depth, photos), open_features(features_test, depth, tested), scratch)
    tasks = [_Task(k, c, draw) for k in sorted(possible, reverse=True) for c in classes.tolist() for draw in DRAWN]
    open_tasks = [task for task in tasks if not task.file(scratch).exists()]
    fits = sum(len(searched) * photos_drawn(task.k, len(classes)) for task in open_tasks)
    processes, window = fitting_pool(fits * rows.train.shape[1], workers)
    with processes:
        work = ((task, _rows(task, samples, labels, test_labels)) for task in open_tasks)
        fitted = ordered_map(processes, partial(_fit, rows, searched, ap, seed, scratch), work, window)
        for done, _ in enumerate(fitted, start=len(tasks) - len(open_tasks) + 1):
            report.progress(done, len(tasks), "draws")
    precision = ClassPrecision(test_labels, classes, interpolation=ap, seed=seed)
    values: dict[str, dict[str, Estimate]] = {}
    notes = []
    for k in possible:
        found, note = _chosen(k, classes, searched, scratch, precision)
        values |= found
        notes.append(note)

    missing = [k for k in shots if k not in possible]
    if missing:
        notes.append(f"Left out, because some class has too few photos in train: k = {', '.join(map(str, missing))}.")
    notes += [f"mAP is over {len(classes)} classes.", *left_out(photos.categories, classes)]
    settings = describe_features(features_test) | {
        "depth": depth,
        "shots": possible,
        "draws": DRAWS,
        "costs": list(searched),
        "max_iterations": MAX_ITERATIONS,
        "ap": ap,
        "train": photos.directory.name,
        "train_photos": len(photos),
    }
    figures = _figures(values)
    save_outcome(Outcome("low_shot_svm", tested.directory.name, settings, figures, values, notes), out)
    report.metric(**{name.replace(" k=", "_").replace(" ", "_"): each[THIS].value for name, each in values.items()})


def _rows(task: _Task, samples: Mapping[tuple[int, int], Sample], labels: np.ndarray, test_labels: np.ndarray) -> _Rows:
    # In the order of the catalog, as the reference has them: it marks the drawn ones in a table of all photos.
    chosen = np.sort(samples[task.cls, task.draw].first(task.k))
    rest = np.setdiff1d(np.flatnonzero(labels[:, task.cls] != IGNORED), chosen)
    return _Rows(
        chosen, labels[chosen, task.cls] == POSITIVE, rest, labels[rest, task.cls] == POSITIVE, test_labels[:, task.cls]
    )


def _fit(
    turned: TurnedRows,
    costs: Sequence[float],
    ap: Interpolation,
    seed: int,
    scratch: Path,
    work: tuple[_Task, _Rows],
) -> None:
    """Keeps in the task's file: `scores` (costs, M) of the test photos; `test` and `rest` (costs,): average precision
    on them and on the training photos that were not drawn (NaN where none of these shows the class)."""
    task, rows = work
    drawn_rows = turned.train[rows.chosen]
    svms = [fit(drawn_rows, rows.positive, cost, seed) for cost in costs]
    weights, intercepts = np.stack([svm.weights for svm in svms]), np.array([[svm.intercept] for svm in svms])
    scores = weights @ turned.test.T + intercepts
    rest = weights @ turned.train[rows.rest].T + intercepts
    tested, positive = rows.test != IGNORED, rows.test == POSITIVE
    precisions: dict[str, Any] = {
        "rest": [float(average_precision(each, rows.rest_positive, interpolation=ap)) for each in rest],
        "test": [float(average_precision(each[tested], positive[tested], interpolation=ap)) for each in scores],
    }
    draft = scratch / f"{os.getpid()}.partial"
    with draft.open("wb") as file:
        np.savez(file, scores=scores, **precisions)
    os.replace(draft, task.file(scratch))


def _chosen(
    k: int, classes: np.ndarray, costs: Sequence[float], scratch: Path, precision: ClassPrecision
) -> tuple[dict[str, dict[str, Estimate]], str]:
    """The figures of k by both ways to choose the cost, and a note on what was chosen."""
    tasks = [_Task(k, c, draw) for c in classes.tolist() for draw in DRAWN]
    files = {task: np.load(task.file(scratch), allow_pickle=False) for task in tasks}
    estimates: dict[int, dict[_Task, Estimate]] = {}  # of each cost that is chosen
    values, said = {}, []
    for name, photos in (("map", "test"), ("clean map", "rest")):
        quality = np.array([file[photos] for file in files.values()])  # (tasks, costs)
        known = np.isfinite(quality).all(axis=1)
        if not known.any():
            said.append("no photo is left over to choose the clean cost by")
            continue
        best = int(quality[known].mean(axis=0).argmax())
        if best not in estimates:
            estimates[best] = {task: precision.estimate(task.cls, file["scores"][best]) for task, file in files.items()}
        values[f"{name} k={k}"] = {THIS: mean_estimate(list(estimates[best].values()))}
        by_draw = [np.mean([e.value for task, e in estimates[best].items() if task.draw == draw]) for draw in DRAWN]
        said.append(f"{name}: cost {costs[best]:.3g}, standard deviation over the draws {100 * np.std(by_draw):.1f}")
    for file in files.values():
        file.close()
    return values, f"k={k}: {'; '.join(said)}."


def _figures(values: Mapping[str, object]) -> dict[str, Figure]:
    figures = {}
    for name in sorted(values, key=lambda each: each.startswith("clean")):
        way, k = name.split(" k=")
        meaning = (
            f"Linear SVMs trained on {k} photos of each class; mean over classes and {DRAWS} draws of the average "
            "precision on the test photos. "
        )
        meaning += (
            "The cost is chosen on training photos that were not drawn."
            if way.startswith("clean")
            else "The cost is chosen on the test photos, as in the papers."
        )
        clean = " (clean)" if way.startswith("clean") else ""
        figures[name] = Figure(f"low-shot SVM mAP, k={k}{clean}", meaning, metric=name.replace(" k=", "_"))
    return figures
