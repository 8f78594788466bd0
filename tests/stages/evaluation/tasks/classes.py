"""Photos of a class each, as different as stripes of different directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.report import Report

NAMES = ("across", "along", "slanted")
_DIRECTIONS = {"across": (0.0, 1.0), "along": (1.0, 0.0), "slanted": (0.7, 0.7)}


def striped_catalog(folder: Path, each: int, *, seed: int, side: int = 48) -> Catalog:
    """The catalog in `folder/catalog` of `each` photos of each of three classes in `folder/photos`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    for name in NAMES:
        (folder / "photos" / name).mkdir(parents=True)
        right, down = _DIRECTIONS[name]
        for number in range(each):
            wave = np.sin(2 * np.pi * (6 * (right * x + down * y) + rng.random()))
            pixels = 128 + 90 * wave[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(0, 12, (side, side, 3))
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(folder / "photos" / name / f"{number:03d}.png")
    (folder / "catalog").mkdir()
    indexing.run(
        out=folder / "catalog", report=Report(), format="class_folders", root=folder / "photos", min_side=16,
        max_rejected=0.0, workers=1,
    )  # fmt: skip
    return Catalog(folder / "catalog", folder / "photos")
