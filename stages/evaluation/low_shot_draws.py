"""Which photos low-shot classifiers learn from: the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.data.catalog import Catalog
from stages.evaluation.photo_labels import NEGATIVE, POSITIVE

DRAWS = 5  # Goyal et al. 2019, section 6.2
DRAWN = range(1, DRAWS + 1)


class Sample(NamedTuple):
    """What one draw takes for one class, numbers of training photos in the order in which it takes them.

    positives: (K,) with the class. others: (C - 1) K without it.
    """

    positives: np.ndarray
    others: np.ndarray

    def first(self, k: int) -> np.ndarray:
        """The photos of k shots, k up to K."""
        return np.concatenate([self.positives[:k], self.others[: k * len(self.others) // len(self.positives)]])


def drawn(photos: Catalog, candidates: np.ndarray, category: str, draw: int) -> np.ndarray:
    """`candidates` (n,) in the order in which `draw` takes them: by the SHA-256 of draw, category and file name.

    So a draw is the same on every machine, with every version of every library and however the photos are ordered;
    VOC's photos have had the same file names since 2007, whatever folder they lie in. Draws are as good as independent
    of each other, and within one those of a smaller k are part of those of a larger one, so that a curve over k shows
    the number of photos and not the luck of another draw.
    """

    def place(photo: int) -> tuple[bytes, int]:
        name = photos.name(photo).rpartition("/")[2]
        return hashlib.sha256(f"{draw}/{category}/{name}".encode()).digest(), photo

    return np.array(sorted(candidates.tolist(), key=place), np.int64)


def draw_samples(photos: Catalog, labels: np.ndarray, classes: np.ndarray, most: int) -> dict[tuple[int, int], Sample]:
    """What each draw takes of each class, (class, draw) -> the sample for k = `most`.

    Photos with only difficult objects of the class are in none, as in the reference.

    Args:
        labels: (N, all classes) of `image_labels`. classes: numbers of those that are measured.
    """
    samples = {}
    for c in classes.tolist():
        for draw in DRAWN:
            positives, others = (
                drawn(photos, np.flatnonzero(labels[:, c] == label), photos.categories[c], draw)
                for label in (POSITIVE, NEGATIVE)
            )
            samples[c, draw] = Sample(positives[:most], others[: _others(most, len(classes))])
    return samples


def samples_table(samples: Mapping[tuple[int, int], Sample], photos: Catalog) -> pd.DataFrame:
    """draw, class (name), positive, rank (from 0, within class, draw and positive), photo (path)."""
    parts = [
        pd.DataFrame({
            "draw": draw,
            "class": photos.categories[c],
            "positive": positive,
            "rank": np.arange(len(images)),
            "photo": [photos.name(image) for image in images],
        })
        for (c, draw), sample in samples.items()
        for positive, images in ((True, sample.positives), (False, sample.others))
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def possible_shots(shots: Sequence[int], labels: np.ndarray) -> list[int]:
    """The `shots` for which each class has photos enough. labels: (N, C) of the classes that are measured.

    Raises:
        ValueError: there are none.
    """
    if not shots or min(shots) < 1:
        raise ValueError(f"shots={list(shots)} can't be drawn: give at least one number, each 1 or more.")
    positives, others = (int((labels == label).sum(axis=0).min()) for label in (POSITIVE, NEGATIVE))
    possible = [k for k in shots if k <= positives and _others(k, labels.shape[1]) <= others]
    if not possible:
        raise ValueError(
            f"shots={list(shots)} can't be drawn: some class is in {positives} training photos only, or missing in "
            f"{others} only. Add smaller numbers, or train on more photos."
        )
    return possible


def photos_drawn(k: int, classes: int) -> int:
    """How many photos each classifier learns from."""
    return k + _others(k, classes)


def _others(k: int, classes: int) -> int:
    """Photos without the class that are drawn beside k with it; k also where there is no other class."""
    return max(1, classes - 1) * k
