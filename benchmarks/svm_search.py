"""The search for the costs of VOC07's linear SVMs, 20 classes x 19 costs x 3 folds, on all cores against a plain loop.

    python -m benchmarks.svm_search [--photos 700] [--rounds 1] [--keep FILE]

The features are made up: not below 0, with something of each class that a photo shows, as wide beside their number as
9,216 numbers are beside VOC07's 5,011 photos. The plain loop is scikit-learn's LinearSVC on the rows as they are, which
is what the official codes do. `one_process` shows what turning the rows gains by itself (see `stages.evaluation.svm`).
Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from benchmarks.machine import machine
from benchmarks.rounds import alternate, summary
from stages.evaluation.linear_svm import FOLDS, Quality, TrainingSet, Trial, classify
from stages.evaluation.svm import COSTS, MAX_ITERATIONS, scaled_rows, turn_rows
from stages.process import available_cores

CLASSES = 20
_SHARE = 0.08  # of the photos that show a class; VOC07's mean
_WIDTH = 9216 / 5011
_SIGNAL = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=700)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="also write the JSON object to this file")
    options = parser.parse_args()
    report = measure(options.photos, options.rounds)
    print(f"{'':12} {'seconds':>8}  times as fast as the loop")
    for name, seconds in report["seconds"].items():
        print(f"{name:12} {seconds['median']:8.1f}  {report['times_as_fast'][name]:.2f}")
    print(json.dumps(report))
    if options.keep:
        options.keep.write_text(json.dumps(report, indent=2) + "\n")


def measure(photos: int, rounds: int, costs: tuple[float, ...] = COSTS["openselfsup"]) -> dict[str, Any]:
    features, positive = make_features(photos)
    found: dict[str, dict[Trial, Quality]] = {"loop": {}, "one_process": {}, "all_cores": {}}
    started = machine(["scikit-learn", "numpy", "scipy"])

    def ours(name: str, workers: int) -> None:
        with TemporaryDirectory() as scratch:
            sets = {c: TrainingSet(np.arange(photos), positive[:, c]) for c in range(CLASSES)}
            rows = turn_rows(features, features, Path(scratch))
            classify(rows, sets, costs=costs, seed=0, workers=workers, found=found[name].__setitem__)

    cores = available_cores()
    ways = {
        "loop": lambda: plain_loop(features, positive, costs, found["loop"]),
        "one_process": lambda: ours("one_process", 1),
        "all_cores": lambda: ours("all_cores", cores),
    }
    taken = {name: summary(seconds) for name, seconds in alternate(ways, rounds, warmup=0).items()}
    differences = [abs(found["loop"][trial].precision - found["all_cores"][trial].precision) for trial in found["loop"]]
    times = {name: taken["loop"]["median"] / seconds["median"] for name, seconds in taken.items()}
    return {
        "benchmark": "svm_search",
        "svm_search_vs_loop": times["all_cores"],
        "machine": started,
        "photos": photos,
        "width": features.shape[1],
        "fits": CLASSES * (len(costs) * FOLDS + 1),
        "cores": cores,
        "seconds": taken,
        "times_as_fast": times,
        "largest_difference_of_precision": max(differences),
        "unconverged": sum(quality.iterations >= MAX_ITERATIONS for quality in found["loop"].values()),
    }


def make_features(photos: int) -> tuple[np.ndarray, np.ndarray]:
    """(photos, D) float32 features and (photos, CLASSES) bool."""
    rng = np.random.default_rng(0)
    width = round(photos * _WIDTH)
    positive = rng.random((photos, CLASSES)) < _SHARE
    positive[: 2 * FOLDS] = np.arange(2 * FOLDS)[:, None] % 2 == 0  # enough of each for the folds
    classes = rng.standard_normal((CLASSES, width), np.float32)
    noise = rng.standard_normal((photos, width), np.float32)
    return np.maximum(noise + _SIGNAL * positive.astype(np.float32) @ classes, 0), positive


def plain_loop(
    features: np.ndarray, positive: np.ndarray, costs: tuple[float, ...], found: dict[Trial, Quality]
) -> None:
    """The same search and the same last fits, one after the other."""
    rows = scaled_rows(features)

    def fit(kept: np.ndarray, truth: np.ndarray, cost: float) -> LinearSVC:
        svm = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, max_iter=MAX_ITERATIONS, dual=True, random_state=0)
        return svm.fit(rows[kept], truth[kept])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for c in range(CLASSES):
            truth = np.where(positive[:, c], 1, -1)
            means = []
            for cost in costs:
                for fold, (kept, held) in enumerate(StratifiedKFold(FOLDS).split(rows, truth)):
                    svm = fit(kept, truth, cost)
                    precision = average_precision_score(truth[held] == 1, svm.decision_function(rows[held]))
                    found[Trial(c, fold, cost)] = Quality(float(precision), int(svm.n_iter_))
                means.append(np.mean([found[Trial(c, fold, cost)].precision for fold in range(FOLDS)]))
            fit(np.arange(len(rows)), truth, costs[int(np.argmax(means))]).decision_function(rows)


if __name__ == "__main__":
    main()
