"""Linear SVMs by LIBLINEAR: many of them on the same rows, on all cores.

Two things make thousands of fits bearable, and neither changes what they find:

* Rows are *turned*. With the QR decomposition X^T = Q R, the rows of R^T have the same inner products as those of X.
  LIBLINEAR's dual solver sees nothing else of them, so it makes the same steps, and w = Q w'. But R^T is lower
  triangular with at most min(N, D) columns, and LIBLINEAR passes over zeros: of VOC07's 5011 x 9216 numbers, 27 % are
  left to work on, and to copy.
* Fits run in processes. LIBLINEAR shuffles by one random generator for the whole process, so that fits in threads
  disturb each other and find other weights in each run.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from stages.process import pool

MAX_ITERATIONS = 2000
# OpenSelfSup's 19, which ORL uses (benchmarks/svm_tools), and VISSL's 11.
COSTS = {
    "openselfsup": (1.0, 10.0, 100.0, *(0.5**k for k in range(4, 20))),
    "vissl": (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0),
}

_BLOCK = 1024  # rows
# Numbers of the training rows, over all fits, that take about as long as to start another process.
_NUMBERS_A_WORKER = 200_000_000


class Separator(NamedTuple):
    """A fitted SVM in the space of the turned rows: score = x . weights + intercept. weights: (K,) float64.

    iterations: of LIBLINEAR; MAX_ITERATIONS where it has not converged.
    """

    weights: np.ndarray
    intercept: float
    iterations: int


def cost_list(costs: str | Sequence[float]) -> tuple[float, ...]:
    """The costs by the name of their suite, or as they are.

    Raises:
        ValueError: no such suite, no cost, or one that is not above 0.
    """
    if isinstance(costs, str):
        if costs not in COSTS:
            raise ValueError(f"costs '{costs}' are not known: say {', '.join(COSTS)}, or a list of numbers above 0.")
        return COSTS[costs]
    if not costs or min(costs) <= 0:
        raise ValueError(f"costs={list(costs)} cannot be searched: give at least one, each above 0.")
    return tuple(map(float, costs))


def scaled_rows(features: np.ndarray) -> np.ndarray:
    """x / (||x|| + 1e-5) in float64, as in the reference. features: (N, D) of any float."""
    features = np.asarray(features, np.float64)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-5)


class TurnedRows:
    """Scaled training and test rows in turned coordinates, memory-mapped. Pickles as their folder.

    Attributes:
        train: (N, K) float64, K = min(N, D). test: (M, K): what of the test rows lies in the span of the training rows,
            which is all that a linear SVM sees of them.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @cached_property
    def train(self) -> np.ndarray:
        return np.load(self.directory / "train.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def test(self) -> np.ndarray:
        return np.load(self.directory / "test.npy", mmap_mode="r", allow_pickle=False)

    def __getstate__(self) -> Path:
        return self.directory

    def __setstate__(self, directory: Path) -> None:
        self.directory = directory


def turn_rows(train: np.ndarray, test: np.ndarray, directory: Path) -> TurnedRows:
    """Scales and turns rows into `directory`. Training rows have to fit into memory, as LIBLINEAR needs them there.

    Args:
        train: (N, D) features of any float, unscaled. test: (M, D).
    """
    directory.mkdir(parents=True, exist_ok=True)
    q, r = scipy.linalg.qr(scaled_rows(train).T, mode="economic", overwrite_a=True)  # (D, K), (K, N)
    np.save(directory / "train.npy", np.ascontiguousarray(r.T))
    turned = np.lib.format.open_memmap(directory / "test.npy", "w+", np.float64, (len(test), q.shape[1]))
    for first in range(0, len(test), _BLOCK):
        turned[first : first + _BLOCK] = scaled_rows(test[first : first + _BLOCK]) @ q
    turned.flush()
    return TurnedRows(directory)


def fit(rows: np.ndarray, positive: np.ndarray, cost: float, seed: int) -> Separator:
    """LIBLINEAR with the reference's settings: l2 penalty, squared hinge, dual, weights 2 for positives and 1 for
    negatives. A fit that has not converged after MAX_ITERATIONS stays as it is, as in the reference.

    Args:
        rows: (n, K) float64. positive: (n,) bool, of both kinds.
    """
    # class_weight by the labels -1 and 1, so that they are the same as in the reference.
    svm = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, max_iter=MAX_ITERATIONS, dual=True, tol=1e-4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted by whoever asks, not printed one by one
        svm.fit(rows, np.where(positive, 1, -1))
    return Separator(svm.coef_[0], float(svm.intercept_[0]), int(svm.n_iter_))


def fitting_pool(numbers: int, workers: int) -> tuple[Executor, int]:
    """At most `workers` processes, no more than are worth it, and how many tasks may wait for them.

    Each takes up to three times the memory of the turned training rows: those of a fit, and LIBLINEAR's copy of what is
    not 0 in them.

    Args:
        numbers: of training rows, over all fits: fits * n * K.
    """
    count = max(1, min(workers, numbers // _NUMBERS_A_WORKER))
    return pool(count), 2 * count
