"""Painted photos that a small network learns to segment, and to see the depth of, within seconds: colour tells both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from stages.data import indexing
from stages.evaluation.tasks.dense import class_maps
from stages.report import Report
from stages.shards import LocalEngine

WIDTH, HEIGHT = 64, 48
COLOURS = np.array([[90, 90, 90], [220, 40, 40], [40, 60, 220]])  # the floor and two kinds of things
METRES = np.array([6.0, 2.0, 3.5])


def paint(folder: Path, photos: int, seed: int) -> None:
    """`images/*.png`, `labels/*.png` in PASCAL's style, and `depth/*.png` in millimetres."""
    rng = np.random.default_rng(seed)
    for name in ("images", "labels", "depth"):
        (folder / name).mkdir(parents=True)
    for number in range(photos):
        classes = np.zeros((HEIGHT, WIDTH), np.uint8)
        for thing in (1, 2):
            x, y = rng.integers(0, WIDTH - 24), rng.integers(0, HEIGHT - 20)
            classes[y : y + 20, x : x + 24] = thing
        pixels = COLOURS[classes] + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(classes).save(folder / "labels" / f"{number}.png")
        Image.fromarray((1000 * METRES[classes]).astype(np.uint16)).save(folder / "depth" / f"{number}.png")


def index(folder: Path) -> Path:
    """The catalog of `images`, in `catalog`."""
    (folder / "catalog").mkdir()
    indexing.run(
        out=folder / "catalog", report=Report(), format="folder", root=folder / "images", annotations=None, split=None,
        list_file=None, min_side=8, max_rejected=0.0, workers=1,
    )  # fmt: skip
    return folder / "catalog"


def make_maps(folder: Path) -> Path:
    """The class maps, in `maps`."""
    (folder / "maps").mkdir()
    class_maps.run(
        out=folder / "maps", report=Report(), catalog=folder / "catalog", root=folder / "images", source="pascal",
        labels=folder / "labels", workers=1, engine=LocalEngine(1),
    )  # fmt: skip
    return folder / "maps"
