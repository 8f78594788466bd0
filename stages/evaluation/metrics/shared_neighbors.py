"""Whether two encoders, or two checkpoints of one training, name the same nearest neighbours."""

from __future__ import annotations

import numpy as np

from stages.evaluation.estimates import Estimate, resample_counts, weighted_mean
from stages.evaluation.metrics.retrieval_ap import similarities


def shared_neighbors(one: np.ndarray, other: np.ndarray, queries: np.ndarray, k: int, *, seed: int) -> Estimate:
    """Share of the k nearest other rows by `one` that are among the k nearest by `other`, mean over queries.

    Features of a training that has settled keep their neighbours from checkpoint to checkpoint. Guessing shares
    k / (N - 1).

    Args:
        one, other: (N, C) and (N, D), of the same photos; not normalised, may be memory-mapped.
        queries: (Q,) row numbers. k: less than N.

    Raises:
        ValueError: the two are of other photos, or k is not less than their number.
    """
    if len(one) != len(other) or not 1 <= k < len(one):
        raise ValueError(
            f"{k} nearest neighbours among {len(one)} and {len(other)} photos cannot be compared: both encoders need "
            "features of the same photos, and more photos than neighbours."
        )
    shares = []
    for (part, by_one), (_, by_other) in zip(similarities(one, queries), similarities(other, queries), strict=True):
        mine, theirs = _nearest(by_one, part, k), _nearest(by_other, part, k)
        shares.append((mine & theirs).sum(axis=1) / k)
    shared = np.concatenate(shares)
    return Estimate(
        float(shared.mean()), k / (len(one) - 1), weighted_mean(shared, resample_counts(len(queries), seed))
    )


def _nearest(similarity: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """(B, N) bool: the k most similar rows but the row itself, equal ones by number."""
    similarity[np.arange(len(own)), own] = -np.inf
    chosen = np.zeros(similarity.shape, bool)
    np.put_along_axis(chosen, np.argsort(-similarity, axis=1, kind="stable")[:, :k], True, axis=1)
    return chosen
