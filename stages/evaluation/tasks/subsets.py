"""The few labels of semi-supervised learning: the same photos on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from stages.data.catalog import Catalog
from stages.evaluation.tasks.targets import Targets


def labelled_subset(catalog: Catalog, targets: Targets, share: float, draw: int) -> np.ndarray:
    """Numbers of `share` of the labelled photos, ascending. int64.

    Photos come in the order of SHA-256 over (draw, SHA-256 of their content), which no library's random generator, file
    name or folder changes. With one class a photo, equally many of each class are taken, as in SimCLR's lists
    (arXiv:2002.05709, section 6: "in a class-balanced way"); of 12,811 photos of 1,000 classes, 811 classes give 13
    and the others 12. A class with fewer photos gives all it has, and the others do not make up for it. With several
    classes a photo, photos are taken whatever they show.

    Args:
        share: in (0, 1]. draw: number of the subset; another one is another sample.

    Raises:
        ValueError: the share is not in that range, or less than a photo a class.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share} of the labels: it must be above 0 and at most 1 (0.01 is 1 %).")
    usable = targets.usable()
    if share == 1:
        return usable
    wanted = int(share * len(usable) + 1e-9)
    keys = np.fromiter((_key(draw, catalog.sha256(image)) for image in usable.tolist()), np.uint64, len(usable))
    order = usable[np.argsort(keys, kind="stable")]
    if not targets.single:
        if wanted < 1:
            raise ValueError(f"{share:.2%} of {len(usable)} photos is less than one: take a larger share.")
        return np.sort(order[:wanted])
    classes = np.array([targets.of(image) for image in order.tolist()])
    present = np.unique(classes)
    if wanted < len(present):
        raise ValueError(
            f"{share:.2%} of {len(usable)} photos are {wanted}, fewer than the {len(present)} classes: a class without "
            f"a photo can't be learned. Take a share of at least {len(present) / len(usable):.2%}."
        )
    each, more = divmod(wanted, len(present))
    generous = sorted(present.tolist(), key=lambda c: _key(draw, catalog.categories[c]))[:more]
    place = _place_within(classes)
    return np.sort(order[place < each + np.isin(classes, generous)])


def _key(draw: int, text: str) -> int:
    """The first 64 bits."""
    return int.from_bytes(hashlib.sha256(f"{draw} {text}".encode()).digest()[:8], "big")


def _place_within(classes: np.ndarray) -> np.ndarray:
    """For each element how many before it are of the same class. (n,) int64."""
    by_class = np.argsort(classes, kind="stable")
    ranked = classes[by_class]
    first = np.searchsorted(ranked, ranked)
    place = np.empty(len(classes), np.int64)
    place[by_class] = np.arange(len(classes)) - first
    return place
