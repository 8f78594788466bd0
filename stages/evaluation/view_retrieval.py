"""Retrieval of a photo's other view: how near does it come among the augmented views of all photos?

Needs no labels. Views are BYOL's (stages.data.policies.ImageViews) and the same for every encoder.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stages.data.catalog import Catalog
from stages.data.policies import ImageViews
from stages.data.views import View, view_rng
from stages.evaluation.embeddings import Embeddings, nearest_of_other_groups, unit_rows
from stages.evaluation.estimates import Estimate, Figure, Outcome, resample_counts, weighted_mean

# A number that no training epoch has, so that views of photos that were trained on are new ones.
_EPOCH = 2**31 - 1

FIGURES = {
    "rank": Figure(
        "view rank",
        "Share of the other photos' views that are less similar to a view than the other view of its own photo, on "
        "average (the area under the ROC curve of telling the two apart): 100 is always the nearest, 50 is guessing; "
        "by the backbone's features.",
        metric="view_rank",
    ),
    "top1": Figure(
        "view retrieval",
        "Share of augmented views whose most similar picture, among all other views, is the other view of the same "
        "photo; by the backbone's features.",
        metric="view_retrieval",
    ),
    "top1_projector": Figure(
        "view retrieval, projector", "The same, by the projector's output, which training compares."
    ),
}


def photo_views(catalog: Catalog, images: np.ndarray, *, size: int, seed: int) -> list[list[View]]:
    """Two views of each of `images`, drawn from (seed, image) alone."""
    policy = ImageViews(catalog.sizes, size=size)
    return [list(policy.plan(view_rng(seed, _EPOCH, image), image).values()) for image in images.tolist()]


def partner_found(embeddings: np.ndarray) -> np.ndarray:
    """Whether the nearest other row is the row's partner. (2n, D), rows 2i and 2i + 1 being partners -> (2n,) bool."""
    rows = np.arange(len(embeddings))
    return nearest_of_other_groups(embeddings, rows) == rows ^ 1


def partner_rank(embeddings: np.ndarray, chunk: int = 1024) -> np.ndarray:
    """Share of the other photos' rows that are less similar to a row than its partner is; ties count half.

    Args:
        embeddings: (2n, D), rows 2i and 2i + 1 being partners, n at least 2.
        chunk: rows of the similarity matrix that are in memory at once.

    Returns:
        (2n,) float64 in [0, 1].
    """
    rows = unit_rows(embeddings)
    ranks = np.empty(len(rows))
    for start in range(0, len(rows), chunk):
        own = np.arange(start, min(start + chunk, len(rows)))
        similarity = rows[own] @ rows.T  # (chunk, 2n)
        line = np.arange(len(own))
        partner = similarity[line, own ^ 1]
        lower = similarity < partner[:, None]
        equal = similarity == partner[:, None]
        for same_photo in (own, own ^ 1):
            lower[line, same_photo] = equal[line, same_photo] = False
        ranks[own] = (lower.sum(axis=1) + 0.5 * equal.sum(axis=1)) / (len(rows) - 2)
    return ranks


def mean_rank(ranks: np.ndarray, *, seed: int) -> Estimate:
    """Mean of (2n,) ranks with the interval over photos."""
    by_photo = ranks.reshape(-1, 2).mean(axis=1)
    return Estimate(float(by_photo.mean()), 0.5, weighted_mean(by_photo, resample_counts(len(by_photo), seed)))


def share(found: np.ndarray, *, seed: int) -> Estimate:
    """Share of (2n,) bool with the interval over photos; guessing finds one in 2n - 1."""
    by_photo = found.reshape(-1, 2).mean(axis=1)
    counts = resample_counts(len(by_photo), seed)
    return Estimate(float(by_photo.mean()), 1 / (len(found) - 1), weighted_mean(by_photo, counts))


def evaluate(embeddings: Mapping[str, Embeddings], catalog: Catalog, *, view_size: int, seed: int) -> Outcome:
    """Ranks and top-1 shares of every encoder; rows of the embeddings are the views of `photo_views`, in order."""
    values = {
        "rank": {name: mean_rank(partner_rank(e.features), seed=seed) for name, e in embeddings.items()},
        "top1": {name: share(partner_found(e.features), seed=seed) for name, e in embeddings.items()},
        "top1_projector": {name: share(partner_found(e.projections), seed=seed) for name, e in embeddings.items()},
    }
    views = len(next(iter(embeddings.values())).features)
    settings = {"view_size": view_size, "images": views // 2, "views": views, "augmentation": "byol"}
    return Outcome("view_retrieval", catalog.directory.name, settings, FIGURES, values)
