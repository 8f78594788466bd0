"""Average precision of boxes by PASCAL VOC's rules (Everingham et al. 2010, IJCV 88, section 4.2).

A detection is right if it overlaps the object that it overlaps most by *more* than the threshold, and that object is
not yet taken by one of a higher score: a second detection of an object is wrong. Detections of objects that are marked
as difficult count neither as right nor as wrong, and those objects need not be found. Crowds, which VOC does not have,
are treated as difficult.

VOC itself has one threshold, 0.5. "AP" of the papers on VOC is the mean over 0.5, 0.55, ..., 0.95 of the same measure,
as Detectron2 computes it (PascalVOCDetectionEvaluator).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

Rule = Literal["11_point", "area"]

THRESHOLDS = np.arange(50, 100, 5) / 100


def voc_ap(
    truth: pd.DataFrame,
    detections: pd.DataFrame,
    categories: int,
    *,
    rule: Rule,
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """The average precision of each category at each of THRESHOLDS.

    Args:
        truth: the objects, as `Catalog.labels`: image, category, x0, y0, x1, y1, difficult, crowd.
        detections: image, category, score, x0, y0, x1, y1. Of equal scores the first one is looked at first.
        categories: K.
        rule: "11_point": the mean of the precision at the recalls 0, 0.1, ..., 1 (VOC2007, and with it Detectron2 on
            VOC2007's test set). "area": the area under the curve (from VOC2010 on). Precision is made monotone in both.
        counts: (R, N): how often each photo is in each of R resamples. None: all photos once.

    Returns:
        (K, 10) float64 in [0, 1], or (R, K, 10) with `counts`; NaN where a category has no object that counts.
    """
    if counts is None:
        images = 1 + max(truth["image"].max() if len(truth) else 0, detections["image"].max() if len(detections) else 0)
        return voc_ap(truth, detections, categories, rule=rule, counts=np.ones((1, images), np.int64))[0]
    result = np.full((len(counts), categories, len(THRESHOLDS)), np.nan)
    objects_of: dict[Any, pd.DataFrame] = dict(iter(truth.groupby("category")))
    found: dict[Any, pd.DataFrame] = dict(iter(detections.groupby("category")))
    for category in sorted(objects_of):
        objects = objects_of[category]
        ignored = (objects["difficult"] | objects["crowd"]).to_numpy(bool)
        positives = counts[:, objects["image"].to_numpy()[~ignored]].sum(axis=1)  # (R,)
        candidates = found.get(category, detections.iloc[:0])
        candidates = candidates.sort_values("score", ascending=False, kind="stable")
        best, overlap = _best_objects(objects, candidates)
        weights = counts[:, candidates["image"].to_numpy()]  # (R, D)
        for column, threshold in enumerate(THRESHOLDS):
            hit = overlap > threshold
            right, wrong = _judged(hit, best, ignored)
            result[:, category, column] = _average(weights * right, weights * wrong, positives, rule)
    return result


def _best_objects(objects: pd.DataFrame, detections: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Of each detection the object (its row) in the same photo which it overlaps most, and their IoU; -1 and 0 without.

    Returns:
        (D,) int64 and (D,) float64.
    """
    best, overlap = np.full(len(detections), -1, np.int64), np.zeros(len(detections))
    sides = ["x0", "y0", "x1", "y1"]
    left = detections[["image", *sides]].assign(detection=np.arange(len(detections)))
    pairs = left.merge(objects[["image", *sides]].assign(object=np.arange(len(objects))), on="image")
    if pairs.empty:
        return best, overlap
    width = pairs[["x1_x", "x1_y"]].min(axis=1) - pairs[["x0_x", "x0_y"]].max(axis=1)
    height = pairs[["y1_x", "y1_y"]].min(axis=1) - pairs[["y0_x", "y0_y"]].max(axis=1)
    shared = (width.clip(lower=0) * height.clip(lower=0)).to_numpy()
    areas = [((pairs[f"x1_{s}"] - pairs[f"x0_{s}"]) * (pairs[f"y1_{s}"] - pairs[f"y0_{s}"])).to_numpy() for s in "xy"]
    iou = shared / (areas[0] + areas[1] - shared)
    # By detection, then by falling IoU; of equal ones the first object.
    detection, row = pairs["detection"].to_numpy(), pairs["object"].to_numpy()
    order = np.lexsort([row, -iou, detection])
    first = order[np.unique(detection[order], return_index=True)[1]]
    best[detection[first]], overlap[detection[first]] = row[first], iou[first]
    return best, overlap


def _judged(hit: np.ndarray, best: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are right and which are wrong, (D,) bool each; neither, if they hit an ignored object."""
    neither = np.zeros(len(hit), bool)
    neither[hit] = ignored[best[hit]]
    hitting = np.flatnonzero(hit & ~neither)
    right = np.zeros(len(hit), bool)
    right[hitting[np.unique(best[hitting], return_index=True)[1]]] = True  # the first one of each object
    return right, ~right & ~neither


def _average(right: np.ndarray, wrong: np.ndarray, positives: np.ndarray, rule: Rule) -> np.ndarray:
    """AP of ranked detections. right, wrong: (R, D), how often each; positives: (R,). Returns (R,)."""
    found = np.cumsum(right, axis=1)
    precision = found / np.maximum(found + np.cumsum(wrong, axis=1), 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    some = np.maximum(positives, 1)
    if rule == "area":
        average = (right * envelope).sum(axis=1) / some
    else:
        average = np.zeros(len(found))
        for tenths in range(11):
            # In whole numbers: 0.1 has no exact float, and a recall that is exactly 0.3 counts as reached.
            reached = 10 * found >= tenths * positives[:, None]
            average += np.where(reached, envelope, 0).max(axis=1, initial=0) / 11
    return np.where(positives > 0, average, np.nan)
