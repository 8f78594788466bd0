"""Which classes a whole photo shows, from the boxes of its objects, and how well scores find them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.data.catalog import Catalog
from stages.evaluation.estimates import Estimate, resample_counts
from stages.evaluation.metrics.average_precision import Interpolation, average_precision, chance_average_precision

POSITIVE, IGNORED, NEGATIVE = 1, 0, -1


def image_labels(catalog: Catalog) -> np.ndarray:
    """(N, classes) int8: POSITIVE with at least one object of the class that is not difficult, IGNORED with difficult
    objects only, else NEGATIVE. A crowd counts as an object: the class is in the photo."""
    labels = np.full((len(catalog), len(catalog.categories)), NEGATIVE, dtype=np.int8)
    objects = catalog.labels
    image, category = objects["image"].to_numpy(), objects["category"].to_numpy()
    difficult = objects["difficult"].to_numpy(dtype=bool)
    labels[image[difficult], category[difficult]] = IGNORED
    labels[image[~difficult], category[~difficult]] = POSITIVE
    return labels


def shared_categories(train: Catalog, test: Catalog) -> list[str]:
    """The categories of both.

    Raises:
        ValueError: they differ.
    """
    if train.categories != test.categories:
        raise ValueError(
            f"train has the categories {train.categories}, test has {test.categories}. A classifier can only be tested "
            "on the classes it was trained on: give two splits of one data set."
        )
    return train.categories


def measurable_classes(train: Catalog, test: Catalog, least: int, least_without: int | None = None) -> np.ndarray:
    """Numbers of the classes of which train has `least` photos with and `least_without` (None: as many) photos without
    the class for sure, and test a photo with it.

    Raises:
        ValueError: the two catalogs have different categories, or no class can be measured.
    """
    shared_categories(train, test)
    without = least if least_without is None else least_without
    labels = image_labels(train)
    enough = ((labels == POSITIVE).sum(axis=0) >= least) & ((labels == NEGATIVE).sum(axis=0) >= without)
    classes = np.flatnonzero(enough & (image_labels(test) == POSITIVE).any(axis=0))
    if len(classes) == 0:
        raise ValueError(
            f"no class has {least} photos with and {without} without it in train and one photo with it in test. "
            "Evaluate on more photos, or leave train and test out of the evaluation section."
        )
    return classes


def left_out(names: Sequence[str], classes: np.ndarray) -> list[str]:
    """A note that names the classes that could not be measured; none where all were."""
    missing = [name for number, name in enumerate(names) if number not in classes]
    reason = "train or test holds too few photos with or without them"
    return [f"Left out of mAP, because {reason}: {', '.join(missing)}."] if missing else []


class ClassPrecision:
    """Average precision of each class on the test photos, with the bootstrap that all encoders share.

    Photos with only difficult objects of a class are left out for it, as VOC's rules say.
    """

    def __init__(
        self, labels: np.ndarray, classes: np.ndarray, *, interpolation: Interpolation = "area", seed: int
    ) -> None:
        """labels: (M, all classes) of `image_labels`. classes: numbers of those that are measured."""
        self._labels, self._interpolation = labels, interpolation
        self._counts = resample_counts(len(labels), seed)
        rng = np.random.default_rng(seed)
        self._chance = {int(c): self._guessing(labels[:, c], rng) for c in classes}

    def value(self, cls: int, scores: np.ndarray) -> float:
        """scores: (M,) of all test photos."""
        tested, positive = self._tested(cls)
        return float(average_precision(scores[tested], positive, interpolation=self._interpolation))

    def estimate(self, cls: int, scores: np.ndarray) -> Estimate:
        tested, positive = self._tested(cls)
        resamples = average_precision(
            scores[tested], positive, self._counts[:, tested], interpolation=self._interpolation
        )
        return Estimate(self.value(cls, scores), self._chance[int(cls)], resamples)

    def _tested(self, cls: int) -> tuple[np.ndarray, np.ndarray]:
        labels = self._labels[:, cls]
        tested = labels != IGNORED
        return tested, labels[tested] == POSITIVE

    def _guessing(self, labels: np.ndarray, rng: np.random.Generator) -> float:
        """Average precision of random rankings."""
        positives, tested = int((labels == POSITIVE).sum()), int((labels != IGNORED).sum())
        return chance_average_precision(positives, tested, rng, interpolation=self._interpolation)
