"""Retrieval of a photo's other view: is the most similar picture of all the other augmented view of the same photo?

Needs no labels. Views are BYOL's (stages.data.policies.ImageViews) and the same for every encoder.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stages.data.catalog import Catalog
from stages.data.policies import ImageViews
from stages.data.views import View, view_rng
from stages.evaluation.embeddings import Embeddings, nearest_of_other_groups
from stages.evaluation.estimates import Estimate, Figure, Outcome, resample_counts, weighted_mean

FIGURES = {
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
    return [list(policy.plan(view_rng(seed, 0, image), image).values()) for image in images.tolist()]


def partner_found(embeddings: np.ndarray) -> np.ndarray:
    """Whether the nearest other row is the row's partner. (2n, D), rows 2i and 2i + 1 being partners -> (2n,) bool."""
    rows = np.arange(len(embeddings))
    return nearest_of_other_groups(embeddings, rows) == rows ^ 1


def share(found: np.ndarray, *, seed: int) -> Estimate:
    """Share of (2n,) bool with the interval over photos; guessing finds one in 2n - 1."""
    by_photo = found.reshape(-1, 2).mean(axis=1)
    counts = resample_counts(len(by_photo), seed)
    return Estimate(float(by_photo.mean()), 1 / (len(found) - 1), weighted_mean(by_photo, counts))


def evaluate(embeddings: Mapping[str, Embeddings], catalog: Catalog, *, view_size: int, seed: int) -> Outcome:
    """Top-1 share of every encoder; the rows of the embeddings are the views of `photo_views`, in order."""
    values = {
        "top1": {name: share(partner_found(e.features), seed=seed) for name, e in embeddings.items()},
        "top1_projector": {name: share(partner_found(e.projections), seed=seed) for name, e in embeddings.items()},
    }
    views = len(next(iter(embeddings.values())).features)
    settings = {"view_size": view_size, "images": views // 2, "views": views, "augmentation": "byol"}
    return Outcome("view_retrieval", catalog.directory.name, settings, FIGURES, values)
