"""Average precision of a ranking, by the two definitions of PASCAL VOC."""

from __future__ import annotations

from typing import Literal

import numpy as np

# "area" since 2010 (development kit of VOC2010, section 3.4.1); "11_point" until 2009 (Everingham et al. 2010,
# section 4.2). OpenSelfSup, VISSL and ORL report the area on VOC07, BYOL 11 points.
Interpolation = Literal["area", "11_point"]
INTERPOLATIONS = ("area", "11_point")


def average_precision(
    scores: np.ndarray, positive: np.ndarray, counts: np.ndarray | None = None, *, interpolation: Interpolation = "area"
) -> np.ndarray:
    """Area under the precision-recall curve after precision was made monotone, or the mean of its height in 11 points.

    The precision at a recall r is the largest one at any recall >= r. "area" integrates that over all recalls,
    "11_point" takes its mean at the recalls 0, 0.1, ... 1. Pictures of equal score enter the curve together: the order
    in which they came does not matter.

    Args:
        scores: (N,), larger means more likely positive.
        positive: (N,) bool.
        counts: (R, N): how often each picture is present in each of R resamples. None: every picture once.

    Returns:
        (R,) float64 in [0, 1], or a scalar array without `counts`; NaN where a resample holds no positive.

    Raises:
        ValueError: no such interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"average precision '{interpolation}' is not known. Choose one of {', '.join(INTERPOLATIONS)}."
        )
    if counts is None:
        once = np.ones((1, len(scores)), dtype=np.int64)
        return average_precision(scores, positive, once, interpolation=interpolation)[0]
    order = np.argsort(-scores, kind="stable")
    hits, ranked, counts = positive[order], scores[order], counts[:, order]
    run = np.append(0, np.cumsum(ranked[1:] != ranked[:-1]))  # of equal scores, by number
    # Precision falls until the next positive comes, so only runs that hold one can be on the monotone curve.
    runs, first_hits = np.unique(run[hits], return_index=True)
    if len(runs) == 0:
        return np.full(len(counts), np.nan)
    ends = np.searchsorted(run, runs, side="right")
    starts = np.append(0, ends[:-1])
    present = np.cumsum(np.add.reduceat(counts[:, : ends[-1]], starts, axis=1), axis=1)  # (R, runs)
    found = np.cumsum(np.add.reduceat(counts[:, hits], first_hits, axis=1), axis=1)
    total = found[:, -1]
    precision = found / np.maximum(present, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if interpolation == "area":
        summed, parts = (np.diff(found, axis=1, prepend=0) * envelope).sum(axis=1), total
    else:
        summed, parts = _heights(found, envelope).sum(axis=1), np.where(total > 0, 11, 0)
    return np.divide(summed, parts, out=np.full(len(summed), np.nan), where=parts > 0)


def _heights(found: np.ndarray, envelope: np.ndarray) -> np.ndarray:
    """The envelope at the recalls 0, 0.1, ... 1. Both (R, runs), from the largest scores down; returns (R, 11).

    Recalls are compared as whole numbers: 3 of 10 is a recall of 0.3, which floats may deny.
    """
    rows = np.arange(len(found))
    reached = [(10 * found >= tenth * found[:, -1:]).argmax(axis=1) for tenth in range(11)]
    return np.stack([envelope[rows, at] for at in reached], axis=1)


def chance_average_precision(
    positives: int,
    total: int,
    rng: np.random.Generator,
    rankings: int = 100,
    *,
    interpolation: Interpolation = "area",
) -> float:
    """Mean average precision of random rankings of `total` pictures of which `positives` are positive.

    It lies above the share of positives, clearly so when there are few of them, because of the envelope.
    """
    positive = np.arange(total) < positives
    drawn = [average_precision(rng.random(total), positive, interpolation=interpolation) for _ in range(rankings)]
    return float(np.mean(drawn))
