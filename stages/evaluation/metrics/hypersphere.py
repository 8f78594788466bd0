"""How features of length 1 lie on their sphere: alignment and uniformity (Wang & Isola 2020, arXiv:2005.10242).

Both are losses there, so lower is better: views of one photo close together, photos spread evenly.
"""

from __future__ import annotations

import numpy as np

from stages.evaluation.embeddings import unit_rows
from stages.evaluation.estimates import Estimate, resample_counts, weighted_mean

_TEMPERATURE = 2.0  # t of the paper, and its alpha = 2: squared distances (section 4.1.2)
_ROWS = 1024  # of the matrix of distances that are in memory at once


def alignment(first: np.ndarray, second: np.ndarray, *, seed: int) -> Estimate:
    """Mean squared distance of the two views of a photo (equation 1, alpha 2), with its interval over photos.

    first, second: (N, D), row by row of the same photos. In [0, 4].
    """
    distances = np.square(unit_rows(first).astype(np.float64) - unit_rows(second)).sum(axis=1)
    counts = resample_counts(len(distances), seed)
    return Estimate(float(distances.mean()), resamples=weighted_mean(distances, counts))


def uniformity(features: np.ndarray, *, seed: int) -> Estimate:
    """log of the mean of exp(-2 ||x - y||^2) over all pairs of different photos (equation 2, t 2), with its interval.

    features: (N, D), a view of each photo, N >= 2. In [-8, 0]; directions that are spread evenly over many dimensions
    have -4, as distances are then sqrt(2).
    """
    rows = unit_rows(features).astype(np.float64)
    counts = np.vstack([np.ones(len(rows)), resample_counts(len(rows), seed)])  # (1 + R, N)
    sums = np.zeros(len(counts))
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        near = np.exp(-_TEMPERATURE * np.maximum(2 - 2 * rows[part] @ rows.T, 0))  # (B, N)
        own = np.arange(len(rows))[part]
        near[own - start, own] = 0  # a photo drawn twice is no pair of photos
        sums += ((counts @ near.T) * counts[:, part]).sum(axis=1)
    value, *resamples = np.log(sums / (np.square(counts.sum(axis=1)) - np.square(counts).sum(axis=1)))
    return Estimate(float(value), resamples=np.array(resamples))
