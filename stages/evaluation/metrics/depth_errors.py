"""Errors of depth maps, as Eigen et al. (arXiv:1406.2283) and Laina et al. (arXiv:1606.00373) define them: over the
pixels of all photos.

    pct_n  share of the pixels with max(d / d*, d* / d) < 1.25^n
    rms    square root of the mean of (d - d*)^2, metres
    rel    mean of |d - d*| / d*
    log10  mean of |log10 d - log10 d*|

d is the depth that was predicted and d* the measured one, in metres.
"""

from __future__ import annotations

import numpy as np

from stages.evaluation.estimates import Estimate, resample_counts

THRESHOLD = 1.25
NAMES = ("pct_1", "pct_2", "pct_3", "rms", "rel", "log10")
SHALLOWEST = 1e-3  # metres: a prediction nearer than that, or behind the camera, counts as that; ratios need it


def error_sums(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Sums over the pixels of one photo: their number, then for each of NAMES what its mean is taken of.

    predicted, measured: (n,) float in metres, measured > 0. Returns (7,) float64.
    """
    d, truth = np.maximum(predicted.astype(np.float64), SHALLOWEST), measured.astype(np.float64)
    ratio = np.maximum(d / truth, truth / d)
    close = [float((ratio < THRESHOLD**power).sum()) for power in (1, 2, 3)]
    errors = (d - truth) ** 2, np.abs(d - truth) / truth, np.log10(ratio)
    return np.array([len(truth), *close, *(each.sum() for each in errors)])


def figures(sums: np.ndarray) -> np.ndarray:
    """(..., 7) sums over photos -> (..., 6), the figures of NAMES; NaN without a pixel."""
    pixels = sums[..., :1]
    means = np.divide(sums[..., 1:], pixels, out=np.full((*sums.shape[:-1], len(NAMES)), np.nan), where=pixels > 0)
    rms = NAMES.index("rms")
    means[..., rms] = np.sqrt(means[..., rms])
    return means


def estimates(sums: np.ndarray, guessed: np.ndarray, *, seed: int) -> dict[str, Estimate]:
    """The figures of NAMES with intervals over photos.

    Args:
        sums: (N, 7), those of `error_sums` of each photo.
        guessed: (7,), of a guess: the depth of another pixel, drawn at random.

    Raises:
        ValueError: no pixel was measured.
    """
    if not sums[:, 0].any():
        raise ValueError(
            "no pixel of the test photos has a depth: check their depth maps, and the scale of 16-bit ones."
        )
    values, chance = figures(sums.sum(axis=0)), figures(guessed)
    resamples = figures(resample_counts(len(sums), seed) @ sums)
    return {name: Estimate(float(values[i]), float(chance[i]), resamples[:, i]) for i, name in enumerate(NAMES)}
