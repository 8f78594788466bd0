"""Labels in the format of COCO instances (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.data.scenes.classes import CLASSES, THEME_OF
from stages.data.scenes.compose import Placed


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run-length code of a (H, W) bool mask: {"counts": [...], "size": [H, W]}.

    Pixels are read column by column; the counts are the lengths of runs of 0, 1, 0, ..., the first of which may be 0.
    """
    flat = mask.T.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], borders, [flat.size]])).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": [int(mask.shape[0]), int(mask.shape[1])]}


def annotation(thing: Placed, side: int) -> dict[str, Any]:
    """The label of a visible object, all from its mask: box x, y, width, height, area in pixels, segmentation."""
    mask = np.zeros((side, side), bool)
    window = thing.mask()
    mask[thing.y : thing.y + window.shape[0], thing.x : thing.x + window.shape[1]] = window
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "category_id": CLASSES.index(str(thing.label)) + 1,
        "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": run_lengths(mask),
    }


def document(labels: Sequence[Sequence[dict[str, Any]]], side: int) -> dict[str, Any]:
    """The whole file: `labels` holds the annotations of images 0, 1, ... Annotations are numbered from 1."""
    images = [
        {"id": number, "file_name": f"{number:06d}.jpg", "width": side, "height": side} for number in range(len(labels))
    ]
    flat = [{"image_id": number, **label} for number, image in enumerate(labels) for label in image]
    return {
        "info": {"description": "Generated scenes of orl-pipeline: drawn objects on cuts of real photographs"},
        "images": images,
        "annotations": [{"id": number, **label} for number, label in enumerate(flat, start=1)],
        "categories": [
            {"id": number, "name": name, "supercategory": THEME_OF[name]}
            for number, name in enumerate(CLASSES, start=1)
        ],
    }
