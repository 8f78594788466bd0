"""How far embeddings spread out: figures that need no labels and show whether training has collapsed.

Sources: the standard deviation against 1 / sqrt(D) is SimSiam's (Chen & He 2021, section 4.1); of the effective rank
see `stages.learning.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from stages.data.catalog import Catalog
from stages.evaluation.embeddings import Embeddings, unit_rows
from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.learning.metrics import effective_rank

# Below this, the mean cosine between two photos exceeds 1 - 0.05^2 = 0.9975: every photo has nearly the same embedding.
COLLAPSED_STD = 0.05

FIGURES = {
    "effective_rank": Figure(
        "effective rank of features",
        "How many directions the backbone's features use, as the exponential of the entropy of their singular values; "
        "at least 1, at most the number of photos or dimensions.",
        metric="effective_rank",
        percent=False,
        ranked=False,
    ),
    "effective_rank_projector": Figure(
        "effective rank of projections", "The same for the projector's output (RankMe).", percent=False, ranked=False
    ),
    "std": Figure(
        "relative std of features",
        "Standard deviation of the L2-normalised features over photos, as a multiple of 1 / sqrt(dimensions): 1 when "
        "photos spread over the whole sphere, 0 when all have the same. ReLU makes features positive, hence below 1.",
        percent=False,
        ranked=False,
    ),
    "std_projector": Figure(
        "relative std of projections", "The same for the projector's output.", percent=False, ranked=False
    ),
    "mean_cosine": Figure(
        "mean cosine of features", "Mean cosine similarity of two different photos.", percent=False, ranked=False
    ),
    "mean_cosine_projector": Figure(
        "mean cosine of projections", "The same for the projector's output.", percent=False, ranked=False
    ),
    "collapsed": Figure(
        "collapsed",
        f"1 when the relative std of features is below {COLLAPSED_STD}: all photos look alike to the backbone.",
        metric="collapsed",
        percent=False,
        ranked=False,
    ),
}


def relative_std(embeddings: np.ndarray) -> float:
    """sqrt(D) x the standard deviation of the L2-normalised rows, root mean square of the dimensions.

    (N, D) -> [0, 1].
    """
    rows = unit_rows(embeddings).astype(np.float64)
    return float(np.sqrt(rows.var(axis=0).sum()))


def mean_cosine(embeddings: np.ndarray) -> float:
    """Mean cosine similarity over all pairs of different rows. (N, D), N >= 2 -> [-1, 1]."""
    rows = unit_rows(embeddings).astype(np.float64)
    n = len(rows)
    # The sum over all ordered pairs is the squared norm of the sum of the rows.
    return float(((rows.sum(axis=0) ** 2).sum() - (rows**2).sum()) / (n * (n - 1)))


def evaluate(embeddings: Mapping[str, Embeddings], catalog: Catalog, *, resize: int, crop: int) -> Outcome:
    """Spread of features and projections of every encoder over photos of `catalog`; at least two rows."""
    values: dict[str, dict[str, Estimate]] = {figure: {} for figure in FIGURES}
    images = 0
    for name, embedded in embeddings.items():
        images = len(embedded.features)
        for suffix, rows in (("", embedded.features), ("_projector", embedded.projections)):
            values[f"effective_rank{suffix}"][name] = Estimate(effective_rank(torch.from_numpy(rows)).item())
            values[f"std{suffix}"][name] = Estimate(relative_std(rows))
            values[f"mean_cosine{suffix}"][name] = Estimate(mean_cosine(rows))
        values["collapsed"][name] = Estimate(float(values["std"][name].value < COLLAPSED_STD))
    settings = {"images": images, "resize": resize, "crop": crop, "collapsed_below": COLLAPSED_STD}
    return Outcome("spread", catalog.directory.name, settings, FIGURES, values)
