"""Cutting RoIs out of a photo and resizing them to 224 x 224, one thread, decoding included, without the network.

`pil` crops and resizes a box at a time, as ORL's code does; `official` also makes a normalised float tensor of each, as
it does then. Ours stays at whole levels, which the network normalises itself: what is compared is `pil`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from benchmarks.correspondence.part import FILTER, Setup, median, timed
from stages.correspondence.crops import cut
from stages.correspondence.filter import filter_boxes
from stages.correspondence.proposals import selective_search
from stages.data.decode import decode_pixels
from stages.learning.backbones import IMAGENET_MEAN, IMAGENET_STD

SIDE = 224
Work = Sequence[tuple[Path, np.ndarray]]


def measure(setup: Setup) -> dict[str, Any]:
    folder = setup.work / "crops"
    folder.mkdir(exist_ok=True)
    propose = selective_search.make(mode="fast", variant="default")
    work: list[tuple[Path, np.ndarray]] = []
    for number, photo in enumerate(setup.data.standard_photos(setup.pick(12, 2))):
        path = folder / f"{number}.jpg"
        Image.fromarray(photo).save(path, quality=90)
        boxes = propose(photo, 0, np.random.default_rng(0))[0]
        work.append((path, boxes[filter_boxes(boxes, **FILTER)]))
    count = sum(len(boxes) for _, boxes in work)
    setup.say(f"crops: {count} boxes of {len(work)} photos")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ways = {
            "official": functools.partial(_each, official_crops, work),
            "pil": functools.partial(_each, _pil, work),
            "ours": functools.partial(_each, _ours, work),
        }
        figures = {"boxes": count, "photos": len(work)} | timed(ways, setup.rounds, "pil", count)
    finally:
        torch.set_num_threads(threads)
    error = np.concatenate(
        [np.abs(_ours(*each).astype(float) - _pil(*each).astype(float)).mean(axis=(1, 2, 3)) for each in work]
    )
    figures["mean_absolute_error_of_255"] = {"mean": float(error.mean()), "worst_box": float(error.max())}
    headline = {"roi_crops_vs_pil": median(figures, "ours"), "roi_crops_error_of_255": float(error.mean())}
    return figures | {"headline": headline}


def _each(way: Any, work: Work) -> None:
    for path, boxes in work:
        way(path, boxes)


def official_crops(path: Path, boxes: np.ndarray, side: int = SIDE) -> Tensor:
    """(n, 3, side, side) float32, normalised. boxes: (n, 4) x0, y0, x1, y1."""
    photo = Image.open(path).convert("RGB")
    crops = []
    for x0, y0, x1, y1 in boxes.tolist():
        crop = F.resized_crop(photo, y0, x0, y1 - y0, x1 - x0, [side, side])
        crops.append(F.normalize(F.to_tensor(crop), list(IMAGENET_MEAN), list(IMAGENET_STD)))
    return torch.stack(crops)


def _pil(path: Path, boxes: np.ndarray) -> np.ndarray:
    """(n, 224, 224, 3) uint8."""
    photo = Image.open(path).convert("RGB")
    return np.stack(
        [
            np.asarray(photo.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            for box in map(tuple, boxes.tolist())
        ]
    )


def _ours(path: Path, boxes: np.ndarray) -> np.ndarray:
    """(n, 224, 224, 3) uint8."""
    return cut(decode_pixels(path.read_bytes()), boxes, SIDE, SIDE).permute(0, 2, 3, 1).numpy()
