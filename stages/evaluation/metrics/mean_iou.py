"""Intersection over union of classes, from pixels counted photo by photo.

    IoU_k = n_kk / (sum_j n_kj + sum_j n_jk - n_kk),   n_kj = pixels of class k that were called j

over the pixels of all photos (development kit of PASCAL VOC, "segmentation accuracy"), mean over the classes. Three
counts a class and photo say all of it, so a bootstrap over photos needs no confusion matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stages.evaluation.estimates import Estimate, mean_estimate, resample_counts


def class_counts(predicted: Tensor, labels: Tensor, *, classes: int, ignored: int) -> Tensor:
    """Pixels of each class in a photo: rightly predicted, predicted, labelled. Pixels labelled `ignored` don't count.

    predicted, labels: (H, W) of an integer type, classes 0 .. K - 1. Returns (3, K) int64.
    """
    counted = labels != ignored
    predicted, labels = predicted[counted].long(), labels[counted].long()
    right = labels[predicted == labels]
    return torch.stack([each.bincount(minlength=classes) for each in (right, predicted, labels)])


def iou(counts: np.ndarray) -> np.ndarray:
    """(..., 3, K) counts, summed over photos -> (..., K) in [0, 1]; NaN where a class is neither labelled nor
    predicted."""
    right, predicted, labelled = (counts[..., i, :] for i in range(3))
    return _share(right, predicted + labelled - right)


def estimates(counts: np.ndarray, names: Sequence[str], *, seed: int) -> dict[str, Estimate]:
    """`miou`, `pixel_accuracy` (share of pixels called rightly), `class_accuracy` (its mean over classes, each of its
    own pixels), and `iou/NAME` of each class, with intervals over photos.

    A class that is neither labelled nor predicted in any photo is left out, as in MMSegmentation; one that is predicted
    alone has 0. Chance is what labels would score that are shuffled over all pixels: p / (2 - p) for a class that has a
    share p of them.

    Args:
        counts: (N, 3, K), those of `class_counts` of each photo.
        names: of the K classes.

    Raises:
        ValueError: no pixel is labelled.
    """
    total = counts.sum(axis=0, dtype=np.int64)
    pixels = total[2].sum()
    if pixels == 0:
        raise ValueError("no pixel of the test photos has a label that counts: check their label maps.")
    weights = resample_counts(len(counts), seed)
    drawn = (weights @ counts.reshape(len(counts), -1).astype(np.int64)).reshape(-1, *total.shape)  # (R, 3, K)
    shares = total[2] / pixels

    value, resamples, chance = iou(total), iou(drawn), shares / (2 - shares)
    overlaps = {
        k: Estimate(float(value[k]), float(chance[k]), resamples[:, k]) for k in np.flatnonzero(total.any(0)).tolist()
    }
    recall, drawn_recall = _share(total[0], total[2]), _share(drawn[:, 0], drawn[:, 2])
    recalls = [
        Estimate(float(recall[k]), float(shares[k]), drawn_recall[:, k]) for k in np.flatnonzero(total[2]).tolist()
    ]
    accuracy = Estimate(
        float(total[0].sum() / pixels), float((shares**2).sum()), _share(drawn[:, 0].sum(1), drawn[:, 2].sum(1))
    )
    return {
        "miou": mean_estimate(list(overlaps.values())),
        "pixel_accuracy": accuracy,
        "class_accuracy": mean_estimate(recalls),
        **{f"iou/{names[k]}": overlap for k, overlap in overlaps.items()},
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
