"""Pair purity: how many mined pairs of boxes lie on objects of one class, which ORL's object stage relies on.

An encoder finds the pairs on labelled photos by ORL's own recipe (Xie et al. 2021, section 3.2): the nearest neighbours
of each photo, and of the boxes of both the most similar pairs. Which box lies on which object, and what pairs drawn at
random from the same two photos would reach (chance), is said in `stages.correspondence.pair_quality`, which counts a
run's own pairs, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages.correspondence.best_pairs import Rule
from stages.correspondence.pair_quality import PairQuality, write_classes
from stages.correspondence.pair_shards import MinedPairs
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog, Roots
from stages.evaluation.encoders import open_backbone
from stages.evaluation.estimates import Estimate, Figure, Outcome, resample_counts
from stages.evaluation.features import GAP, open_features
from stages.evaluation.pair_mining import mine
from stages.evaluation.saved import THIS, save_outcome
from stages.process import available_cores
from stages.report import Report

FIGURES = {
    "same_class_iou": Figure(
        "pairs on one class",
        "Share of the mined pairs whose two boxes lie on objects of one class, each with an IoU of at least 0.5.",
        metric="same_class_pairs",
    ),
    "same_class_centre": Figure(
        "pairs on one class, by centres",
        "The same, a box lying on the smallest object that its centre is inside of.",
        metric="same_class_pairs_centre",
    ),
}


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any],
    features_test: Path,
    regions: Path,
    test: Path,
    test_root: Roots,
    neighbors: int,
    fraction: float,
    fraction_of: Literal["query_boxes", "matrix"],
    size: int,
    batch_size: int,
    seed: int,
    device: str,
    workers: int,
) -> None:
    """Mines and measures pairs on the labelled photos `test`. Resumes an interrupted run.

    Args:
        encoder, features_test: arguments of `open_backbone`, and the artifact of step `features` with the depth "gap".
        regions: artifact with the boxes of `test`.
        neighbors: K, photos that each photo is paired with.
        fraction, fraction_of: which pairs, see `Rule`.
        size: side to which a box is squeezed, pixels.
        workers: processes; 0: one a core.

    Raises:
        ValueError: photos without labels, or artifacts of other photos.
    """
    catalog, boxes = Catalog(test, test_root), Boxes(regions)
    catalog.labels_of(0, 1, ["image"])  # raises where there are none
    boxes.check(len(catalog))
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    shards = mine(
        scratch, open_backbone(**encoder), open_features(features_test, GAP, catalog), catalog, boxes,
        neighbors=neighbors, rule=Rule(fraction, fraction_of), size=size, batch_size=batch_size, device=device,
        workers=workers or available_cores(), report=report,
    )  # fmt: skip
    pairs = (pairs for shard in shards for pairs in by_photo(MinedPairs.load(shard.path)))
    settings = {
        "photos": len(catalog), "boxes": len(boxes), "neighbors": neighbors, "fraction": fraction,
        "fraction_of": fraction_of, "size": size,
    }  # fmt: skip
    found, count = same_class(pairs, write_classes(catalog, boxes, scratch / "classes.npy"), boxes.starts, seed=seed)
    values = {key: {THIS: found[key]} for key in FIGURES}
    save_outcome(Outcome("pair_purity", test.name, settings | {"pairs": count}, FIGURES, values), out)
    report.metric(pairs=count, **{str(figure.metric): found[key].value for key, figure in FIGURES.items()})


def same_class(
    pairs: Iterator[MinedPairs], classes: np.ndarray, starts: np.ndarray, *, seed: int
) -> tuple[dict[str, Estimate], int]:
    """FIGURES with their intervals over photos, and how many pairs there are.

    Args:
        pairs: of one photo after another, from photo 0 on.
        classes: of each box, see `write_classes`. starts: `Boxes.starts`.
    """
    counts, shares = [], []
    for image, mined in enumerate(pairs):
        quality = PairQuality(classes, starts)
        quality.add(image, mined)
        counts.append(len(mined.rois))
        shares.append(quality.metrics())
    weights = np.array(counts)
    resamples = resample_counts(len(weights), seed)

    def mean(name: str) -> tuple[float, np.ndarray]:
        right = weights * np.array([share[name] for share in shares])
        return float(right.sum() / weights.sum()), (resamples @ right) / (resamples @ weights)

    found = {}
    for key in FIGURES:
        value, again = mean(key)
        found[key] = Estimate(value, mean(f"random_{key}")[0], again)
    return found, int(weights.sum())


def by_photo(mined: MinedPairs) -> Iterator[MinedPairs]:
    """The pairs of several photos, one photo at a time; without similarities."""
    ends = np.cumsum(mined.counts.sum(axis=1))
    unknown = np.empty(0)
    for image, end in enumerate(ends):
        here = slice(image, image + 1)
        first = end - mined.counts[image].sum()
        yield MinedPairs(mined.neighbors[here], mined.counts[here], mined.rois[first:end], unknown, unknown)
