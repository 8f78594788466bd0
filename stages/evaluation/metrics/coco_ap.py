"""Average precision of detections by COCO's rules (cocodataset.org/#detection-eval), computed by pycocotools.

The rules in short: within a photo and a category, detections take in the order of their scores the best object that is
still free and overlaps them by at least t; what an object of a crowd, or one outside the range of areas, is matched
with counts neither as right nor as wrong. The precision, made monotone, is averaged over the recalls 0, 0.01, ..., 1;
that over t = 0.5, 0.55, ..., 0.95 and over the categories which have objects.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence, Set
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.data.objects import clear_objects

Kind = Literal["boxes", "masks"]

DETECTIONS_A_PHOTO = 100  # COCO's; LVIS allows 300
AREAS = ("all", "small", "medium", "large")  # of pycocotools: from 0, 32^2 and 96^2 pixels on
_CATEGORY = 1  # pycocotools sees one category at a time


@dataclass(frozen=True)
class Federation:
    """What LVIS' annotators have looked for (Gupta et al. 2019, arXiv:1908.03195, section 2.2): a photo counts for the
    categories that it has objects of and for those that it is known to have none of, no others.

    Attributes:
        absent: category -> the photos that are known to have none of it.
        incomplete: category -> the photos of which some objects of it may lack a label: a detection there that matches
            no object is neither right nor wrong.
        frequency: (K,) of each category "r", "c" or "f": in at most 10, in at most 100, in more training photos.
    """

    absent: Mapping[int, Set[int]]
    incomplete: Mapping[int, Set[int]]
    frequency: Sequence[str]


@dataclass(frozen=True)
class CocoAP:
    """The average precision of one evaluation.

    Attributes:
        precision: (K, 10, 4) float64 in [0, 1]: of each category, overlap threshold and range of areas (`AREAS`); NaN
            where a category has no object of that range.
    """

    precision: np.ndarray

    @property
    def figures(self) -> dict[str, float]:
        """ap, ap50, ap75, ap_small, ap_medium, ap_large; NaN where there is no object of that range."""
        found = {"ap": _mean(self.precision[..., 0])}
        found |= {"ap50": _mean(self.precision[:, 0, 0]), "ap75": _mean(self.precision[:, 5, 0])}
        return found | {f"ap_{area}": _mean(self.precision[..., i]) for i, area in enumerate(AREAS) if i}

    @property
    def of_category(self) -> np.ndarray:
        """AP of each category, (K,); NaN for those without an object."""
        return self.precision[..., 0].mean(axis=1)


def coco_ap(
    truth: pd.DataFrame,
    detections: pd.DataFrame,
    sizes: np.ndarray,
    categories: int,
    *,
    kind: Kind,
    limit: int = DETECTIONS_A_PHOTO,
    federation: Federation | None = None,
) -> CocoAP:
    """The average precision of `detections`, a category at a time, so that memory holds the matches of one alone.

    Args:
        truth: the objects, as `Catalog.labels`. Their areas are those of their masks where they have any.
        detections: image, category, score, x0, y0, x1, y1, and for masks mask, the bytes of pycocotools' run lengths
            at the size of the photo. Of a photo *and category* the best `limit` count, for COCO; for LVIS, where that
            many count in a photo, the detector gives no more.
        sizes: (N, 2), width and height of the photos, which `image` numbers.
        categories: K.
        federation: for LVIS; None for COCO, whose photos are labelled with all categories.

    Raises:
        ValueError: see `check_truth`.
    """
    check_truth(truth, kind=kind)
    objects: dict[Any, pd.DataFrame] = dict(iter(truth.groupby("category")))
    found: dict[Any, pd.DataFrame] = dict(iter(detections.groupby("category")))
    precision = np.full((categories, 10, len(AREAS)), np.nan)
    for category in sorted(objects):
        rows = objects[category]
        candidates = found.get(category, detections.iloc[:0])
        incomplete: Set[int] = frozenset()
        if federation is not None:
            looked_for = {*rows["image"].tolist(), *federation.absent.get(category, ())}
            candidates = candidates[candidates["image"].isin(looked_for)]
            incomplete = federation.incomplete.get(category, incomplete)
        precision[category] = _precision(rows, candidates, sizes, kind, limit, incomplete)
    return CocoAP(precision)


def check_truth(truth: pd.DataFrame, *, kind: Kind) -> None:
    """Raises ValueError when `truth`, as `Catalog.labels`, has nothing to measure by: no object, or one without mask.

    Crowds and difficult objects are none.
    """
    if not len(clear_objects(truth)):
        raise ValueError("no test photo has a labelled object that counts, so there is no AP: test on more photos.")
    if kind == "masks" and truth["segmentation"].isna().any():
        raise ValueError(
            f"{int(truth['segmentation'].isna().sum())} of {len(truth)} labelled objects have no mask, so AP of masks "
            "can't be computed: take a data set with segmentations, or measure boxes alone."
        )


def _mean(precision: np.ndarray) -> float:
    known = precision[np.isfinite(precision)]
    return float(known.mean()) if len(known) else float("nan")


def _precision(
    truth: pd.DataFrame,
    detections: pd.DataFrame,
    sizes: np.ndarray,
    kind: Kind,
    limit: int,
    incomplete: Set[int],
) -> np.ndarray:
    """Of one category: (10, 4) float64."""
    # Photos without objects and detections of the category add nothing.
    images = sorted({*truth["image"].tolist(), *detections["image"].tolist()})
    with redirect_stdout(io.StringIO()):  # pycocotools tells its times
        measured = _Evaluation(
            _database(truth, images, sizes, kind),
            _database(detections, images, sizes, kind),
            "bbox" if kind == "boxes" else "segm",
            incomplete,
        )
        measured.params.imgIds, measured.params.catIds, measured.params.maxDets = images, [_CATEGORY], [limit]
        measured.evaluate()
        measured.accumulate()
    precision = measured.eval["precision"][:, :, 0, :, 0]  # (10, 101, 4); -1 where there is no object
    return np.where(precision < 0, np.nan, precision).mean(axis=1)


class _Evaluation(COCOeval):
    """pycocotools' evaluation, and LVIS' rule for categories which are not labelled to the last object."""

    def __init__(self, truth: COCO, detections: COCO, kind: str, incomplete: Set[int]) -> None:
        super().__init__(truth, detections, kind)
        self._incomplete = incomplete

    def evaluateImg(self, image: int, category: int, areas: Sequence[float], limit: int) -> Any:
        matches = super().evaluateImg(image, category, areas, limit)
        if matches is not None and image in self._incomplete:
            matches["dtIgnore"] = np.logical_or(matches["dtIgnore"], matches["dtMatches"] == 0)
        return matches


def _database(table: pd.DataFrame, images: Sequence[int], sizes: np.ndarray, kind: Kind) -> COCO:
    """Objects or detections as pycocotools keeps them."""
    database = COCO()
    database.dataset = {
        "images": [{"id": i, "width": int(sizes[i][0]), "height": int(sizes[i][1])} for i in images],
        "categories": [{"id": _CATEGORY}],
        # From 1 on: to pycocotools 0 says that there is no match.
        "annotations": [
            {"id": number, **_annotation(row, sizes[row["image"]], kind)}
            for number, row in enumerate(table.to_dict("records"), start=1)
        ],
    }
    database.createIndex()
    return database


def _annotation(row: Mapping[Any, Any], size: np.ndarray, kind: Kind) -> dict[str, Any]:
    width, height = row["x1"] - row["x0"], row["y1"] - row["y0"]
    entry: dict[str, Any] = {"image_id": int(row["image"]), "category_id": _CATEGORY}
    entry["iscrowd"] = int(row.get("crowd", False))
    if "score" in row:
        entry["score"] = float(row["score"])
    if kind == "boxes":
        entry["bbox"] = [float(row["x0"]), float(row["y0"]), float(width), float(height)]
    entry["area"] = float(width * height)
    if "score" not in row and isinstance(row.get("segmentation"), str):
        # Of objects it is the area of the mask, also where boxes are measured.
        segmentation = json.loads(row["segmentation"])
        entry["area"] = segmentation_area(segmentation)
        entry["segmentation"] = segmentation
    elif kind == "masks":
        entry["segmentation"] = {"size": [int(size[1]), int(size[0])], "counts": row["mask"]}
        entry["area"] = float(run_lengths.area(entry["segmentation"]))
    return entry


def segmentation_area(segmentation: Any) -> float:
    """Area in pixels, as in COCO's files: of polygons their sum by Gauss's formula, of run lengths the pixels.

    Args:
        segmentation: COCO's polygons [[x0, y0, x1, y1, ...], ...], or {"size": [h, w], "counts": list or text}.
    """
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        return float(sum(counts[1::2]) if isinstance(counts, list) else run_lengths.area(segmentation))
    return float(sum(_polygon_area(np.asarray(polygon, np.float64).reshape(-1, 2)) for polygon in segmentation))


def _polygon_area(corners: np.ndarray) -> float:
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    return abs(float((x * next_y - next_x * y).sum())) / 2
