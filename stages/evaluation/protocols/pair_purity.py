"""Pair purity: how many mined pairs of boxes lie on objects of one class, which ORL's object stage relies on.

Either the pairs of a `correspondence` artifact, or those that an encoder finds on labelled photos by ORL's own recipe
(Xie et al. 2021, section 3.2): the nearest neighbours of each photo, and of the boxes of both the most similar pairs.
Which box lies on which object, and what pairs drawn at random from the same two photos would reach (chance), is said in
`stages.correspondence.pair_quality`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages.correspondence.best_pairs import Rule
from stages.correspondence.pair_quality import PairQuality, write_classes
from stages.correspondence.pair_shards import MinedPairs
from stages.correspondence.pair_table import NEIGHBORS_FILE, ROIS_FILE, STARTS_FILE
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog, Roots
from stages.data.mapped import Mapped
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
_PHOTOS = 256  # whose stored pairs are read together


def run(
    *,
    out: Path,
    report: Report,
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
    encoder: dict[str, Any] | None = None,
    features_test: Path | None = None,
    correspondence: Path | None = None,
) -> None:
    """Measures the pairs of one source on the labelled photos `test`. Resumes an interrupted run.

    Args:
        regions: artifact with the boxes of `test`.
        neighbors: K, photos that each photo is paired with.
        fraction, fraction_of: which pairs, see `Rule`.
        size: side to which a box is squeezed, pixels.
        workers: processes; 0: one a core.
        encoder, features_test: arguments of `open_backbone`, and the artifact of step `features` with the depth "gap".
        correspondence: the artifact, in place of these two; made with the same `regions`.

    Raises:
        ValueError: not exactly one source, photos without labels, or artifacts of other photos.
    """
    if (encoder is None) == (correspondence is None) or (encoder is None) != (features_test is None):
        raise ValueError("pair_purity measures either an encoder, with features_test, or a correspondence artifact.")
    catalog, boxes = Catalog(test, test_root), Boxes(regions)
    catalog.labels_of(0, 1, ["image"])  # raises where there are none
    boxes.check(len(catalog))
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"photos": len(catalog), "boxes": len(boxes)}
    if correspondence is not None:
        pairs = stored_pairs(correspondence, boxes)
    else:
        assert encoder is not None, "one of the two is given"
        assert features_test is not None, "it comes with an encoder"
        shards = mine(
            scratch, open_backbone(**encoder), open_features(features_test, GAP, catalog), catalog, boxes,
            neighbors=neighbors, rule=Rule(fraction, fraction_of), size=size, batch_size=batch_size, device=device,
            workers=workers or available_cores(), report=report,
        )  # fmt: skip
        pairs = (pairs for shard in shards for pairs in by_photo(MinedPairs.load(shard.path)))
        settings |= {"neighbors": neighbors, "fraction": fraction, "fraction_of": fraction_of, "size": size}

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


def stored_pairs(correspondence: Path, boxes: Boxes) -> Iterator[MinedPairs]:
    """Those of each photo, from the arrays of the artifact (see `PairsWriter`).

    Raises:
        ValueError: they are of other photos.
    """
    neighbors, rois, starts = (Mapped(correspondence / name).array for name in (NEIGHBORS_FILE, ROIS_FILE, STARTS_FILE))
    if len(neighbors) != boxes.images:
        raise ValueError(
            f"{correspondence} holds the pairs of {len(neighbors)} photos where {boxes.directory} has the boxes of "
            f"{boxes.images}: give the regions that the pairs were made with."
        )
    return _stored(neighbors, rois, starts)


def _stored(neighbors: np.ndarray, rois: np.ndarray, starts: np.ndarray) -> Iterator[MinedPairs]:
    photos, each = neighbors.shape
    for first in range(0, photos, _PHOTOS):
        last = min(first + _PHOTOS, photos)
        ends = starts[first * each : last * each + 1]
        pairs = np.array(rois[ends[0] : ends[-1]], np.int64)
        counts = np.diff(ends).reshape(-1, each)
        unknown = np.empty(0)  # similarities, which the figures do not need
        yield from by_photo(MinedPairs(np.array(neighbors[first:last], np.int64), counts, pairs, unknown, unknown))


def by_photo(mined: MinedPairs) -> Iterator[MinedPairs]:
    """The pairs of several photos, one photo at a time; without similarities."""
    ends = np.cumsum(mined.counts.sum(axis=1))
    unknown = np.empty(0)
    for image, end in enumerate(ends):
        here = slice(image, image + 1)
        first = end - mined.counts[image].sum()
        yield MinedPairs(mined.neighbors[here], mined.counts[here], mined.rois[first:end], unknown, unknown)
