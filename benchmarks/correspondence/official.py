"""The order of work of ORL's official code for stage 3, written anew from its description, with what it costs.

For each photo in turn: take its boxes and those of each of its K neighbours, filter them in Python, crop and resize
each with PIL, pass the crops of one photo at a time through the network in float32, and match. So what belongs to a
photo is made once for itself and once more for each photo whose neighbour it is, 11 times on average for K = 10. The
proposals come from OpenCV's selective search, once a photo, on all cores.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn.functional import normalize

from benchmarks.correspondence.crops import official_crops
from stages.learning.encoder import Encoder


def opencv_boxes(photo: np.ndarray) -> np.ndarray:
    """OpenCV's selective search, fast mode, in OpenCV's order, which depends on the photos before: (n, 4) int64.

    photo: (H, W, 3) uint8 RGB. The boxes are x0, y0, x1, y1.
    """
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    search.switchToSelectiveSearchFast()
    boxes = np.asarray(search.process(), np.int64).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def filter_in_python(
    boxes: list[list[int]], *, min_side: int, max_aspect: float, max_iou: float, max_boxes: int
) -> list[list[int]]:
    """ORL's filter with the boxes kept so far turned into an array for each candidate. boxes: x0, y0, x1, y1.

    Where nothing passes, the first box stays, whatever its size.
    """
    kept: list[list[int]] = []
    for box in boxes:
        width, height = box[2] - box[0], box[3] - box[1]
        if width < min_side or height < min_side:
            continue
        if width / height > max_aspect or height / width > max_aspect:
            continue
        if kept and _largest_iou(np.array(kept), np.array(box)) > max_iou:
            continue
        kept.append(box)
    return (kept or boxes[:1])[:max_boxes]


def _largest_iou(boxes: np.ndarray, box: np.ndarray) -> float:
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    common = np.maximum(high - low, 0.0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return float(np.max(common / (areas + (box[2:] - box[:2]).prod() - common)))


@torch.inference_mode()
def pairs_of_photo(
    encoder: Encoder, photos: list[Path], proposals: list[list[list[int]]], fraction: float, size: int, **filters: float
) -> list[list[tuple[list[int], list[int]]]]:
    """All the work for one query.

    Args:
        encoder: in eval mode, float32.
        photos, proposals: of the query and then of its neighbours; all boxes of selective search, x0, y0, x1, y1.
        fraction: pairs with a neighbour, as a share of the query's boxes.

    Returns:
        For each neighbour the pairs of boxes.
    """
    device = next(encoder.parameters()).device
    kept = [filter_in_python(boxes, **filters) for boxes in proposals]  # type: ignore[arg-type]
    features = []
    for path, boxes in zip(photos, kept, strict=True):
        crops = official_crops(path, np.array(boxes), size)
        maps = encoder.backbone.net(crops.to(device))
        features.append(normalize(maps.mean(dim=(2, 3)), dim=1))
    query, matched = features[0], []
    for other, boxes in zip(features[1:], kept[1:], strict=True):
        similarity = query @ other.T
        best = similarity.flatten().topk(max(1, int(fraction * len(query)))).indices.cpu().tolist()
        matched.append([(kept[0][at // len(other)], boxes[at % len(other)]) for at in best])
    return matched
