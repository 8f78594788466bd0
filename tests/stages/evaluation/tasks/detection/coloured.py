"""Photos of coloured squares on grey, with boxes and masks: what a detector learns within seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.report import Report

SIDE = 64
COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220)}


def coloured_catalog(folder: Path, photos: int, seed: int) -> Catalog:
    """Two squares of 20 to 32 pixels in each photo of 64 x 48, one of each class; in the last one nothing but a crowd.

    Red squares have polygons, blue ones run lengths.
    """
    rng = np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True)
    images, annotations = [], []
    for number in range(photos):
        width, height = SIDE, 48
        pixels = rng.normal(110, 12, (height, width, 3))
        for category, colour in enumerate(COLOURS.values()):
            side = int(rng.integers(20, 30))
            x, y = 32 * category + int(rng.integers(0, 33 - side)), int(rng.integers(0, height - side))
            if number < photos - 1:
                pixels[y : y + side, x : x + side] = colour
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": category + 1, "area": side**2,
                 "bbox": [x, y, side, side], "iscrowd": int(number == photos - 1),
                 "segmentation": _segmentation(category, x, y, side, width, height)}
            )  # fmt: skip
        name = f"{number:03d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "photos" / name)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
    categories = [{"id": number, "name": name} for number, name in enumerate(COLOURS, start=1)]
    file = folder / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    (folder / "catalog").mkdir()
    indexing.run(
        out=folder / "catalog", report=Report(), format="coco", root=folder / "photos", annotations=file, split=None,
        list_file=None, min_side=8, max_rejected=0.0, workers=1,
    )  # fmt: skip
    return Catalog(folder / "catalog", folder / "photos")


def _segmentation(category: int, x: int, y: int, side: int, width: int, height: int) -> Any:
    if category == 0:
        return [[x, y, x + side, y, x + side, y + side, x, y + side]]
    mask = np.zeros((height, width), bool)
    mask[y : y + side, x : x + side] = True
    flat = mask.T.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], borders, [flat.size]])).tolist()
    return {"size": [height, width], "counts": [0, *counts] if flat[0] else counts}
