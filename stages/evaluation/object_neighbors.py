"""Same-class share: how often the most similar object of another photo is an object of the same class.

This is what ORL's mining of pairs would reach if its proposals were the labelled boxes: it, too, compares resized RoIs
by the L2-normalised global average of the last feature map (Xie et al. 2021, section 3.2, and the official code).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stages.data.catalog import Catalog
from stages.data.objects import MIN_SIDE, in_two_photos, measured_objects
from stages.evaluation.embeddings import Embeddings, nearest_of_other_groups
from stages.evaluation.estimates import Estimate, Figure, Outcome, mean_estimate, resample_counts, weighted_mean

FIGURES = {
    "micro": Figure(
        "same-class share",
        "Share of the labelled objects whose most similar object in another photo has the same class.",
        metric="object_neighbors",
    ),
    "macro": Figure(
        "same-class share, mean of classes",
        "The same, averaged over classes, so that frequent classes don't decide alone.",
    ),
}


def same_class(embeddings: np.ndarray, images: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Whether each object's most similar object of another photo has its class. (N, C), (N,), (N,) -> (N,) bool."""
    nearest = nearest_of_other_groups(embeddings, images)
    return (nearest >= 0) & (categories[nearest] == categories)


def chance_same_class(images: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Probability that a random object of another photo has the class of each object. (N,) float64."""
    pairs = pd.DataFrame({"image": images, "category": categories})
    same = pairs.groupby("category")["image"].transform("size")
    same_here = pairs.groupby(["image", "category"])["image"].transform("size")
    here = pairs.groupby("image")["category"].transform("size")
    others = len(pairs) - here
    return ((same - same_here) / others.where(others > 0, 1)).to_numpy(dtype=np.float64)


def shares(
    hits: np.ndarray, chance: np.ndarray, images: np.ndarray, categories: np.ndarray, *, seed: int
) -> dict[str, Estimate]:
    """Share of `hits` over objects (micro) and averaged over classes (macro).

    Photos, not objects, are resampled: objects of one photo are not independent. All arrays (N,).
    """
    photos, photo_of = np.unique(images, return_inverse=True)
    counts = resample_counts(len(photos), seed)[:, photo_of]
    hits = hits.astype(np.float64)
    by_class = [
        Estimate(float(hits[of].mean()), float(chance[of].mean()), weighted_mean(hits[of], counts[:, of]))
        for of in (categories == category for category in np.unique(categories))
    ]
    return {
        "micro": Estimate(float(hits.mean()), float(chance.mean()), weighted_mean(hits, counts)),
        "macro": mean_estimate(by_class),
    }


def evaluate(embeddings: Mapping[str, Embeddings], catalog: Catalog, *, object_size: int, seed: int) -> Outcome:
    """Same-class shares of every encoder; rows of the embeddings are those of `measured_objects`."""
    objects = measured_objects(catalog)
    images, categories = objects["image"].to_numpy(), objects["category"].to_numpy()
    asked = in_two_photos(objects)  # the others stay as wrong answers
    chance = chance_same_class(images, categories)
    values: dict[str, dict[str, Estimate]] = {figure: {} for figure in FIGURES}
    for encoder, embedded in embeddings.items():
        hits = same_class(embedded.features, images, categories)
        for figure, estimate in shares(hits[asked], chance[asked], images[asked], categories[asked], seed=seed).items():
            values[figure][encoder] = estimate
    settings = {
        "features": "gap",
        "object_size": object_size,
        "min_side": MIN_SIDE,
        "objects": len(objects),
        "labelled_objects": len(catalog.labels),
        "asked_objects": int(asked.sum()),
    }
    return Outcome(
        "object_neighbors",
        catalog.directory.name,
        settings,
        FIGURES,
        values,
        _notes(objects, asked, catalog.categories),
    )


def _notes(objects: pd.DataFrame, asked: np.ndarray, names: Sequence[str]) -> list[str]:
    alone = sorted({names[c] for c in objects["category"].to_numpy()[~asked]})
    notes = [f"{int(asked.sum())} objects of {objects['image'].nunique()} photos were compared."]
    if alone:
        notes.append(f"Classes that occur in one photo only are not asked for: {', '.join(alone)}.")
    return notes
