"""Average precision of a ranking, as PASCAL VOC has computed it since 2010."""

from __future__ import annotations

import numpy as np


def average_precision(scores: np.ndarray, positive: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Area under the precision-recall curve after precision was made monotone (VOC2010 development kit, section 3.4.1).

    The precision at a recall r is the largest one at any recall >= r, so no interpolation in 11 points. Pictures
    of equal score enter the curve together: the order in which they came does not matter.

    Args:
        scores: (N,), larger means more likely positive.
        positive: (N,) bool.
        counts: (R, N): how often each picture is present in each of R resamples. None: every picture once.

    Returns:
        (R,) float64 in [0, 1], or a scalar array without `counts`; NaN where a resample holds no positive.
    """
    if counts is None:
        return average_precision(scores, positive, np.ones((1, len(scores)), dtype=np.int64))[0]
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(ranked[1:] != ranked[:-1], True)  # last picture of each run of equal scores
    counts = counts[:, order]
    present = np.cumsum(counts, axis=1)[:, ends]
    found = np.cumsum(counts * positive[order], axis=1)[:, ends]
    total = found[:, -1:]
    precision = found / np.maximum(present, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    gained = np.diff(found, axis=1, prepend=0)
    area = (gained * envelope).sum(axis=1)
    return np.divide(area, total[:, 0], out=np.full(len(area), np.nan), where=total[:, 0] > 0)


def chance_average_precision(positives: int, total: int, rng: np.random.Generator, rankings: int = 100) -> float:
    """Mean average precision of random rankings of `total` pictures of which `positives` are positive.

    It lies above the share of positives, clearly so when there are few of them, because of the envelope.
    """
    positive = np.arange(total) < positives
    return float(np.mean([average_precision(rng.random(total), positive) for _ in range(rankings)]))
