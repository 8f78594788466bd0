"""Reading a catalog: which photos a data set holds, and their labels where it has any."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.data.decode import decode, decode_pixels


class Catalog:
    """The `catalog` artifact in `directory`, over the photos below `root`.

    Paths in it are relative to `root`, so that a data set may move. Images are numbered 0 .. N-1 in the order of
    `images.parquet`; every other artifact refers to them by that number.
    """

    def __init__(self, directory: Path, root: Path) -> None:
        self.directory = Path(directory)
        self.root = Path(root)
        self.images = pd.read_parquet(self.directory / "images.parquet")

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def _paths(self) -> np.ndarray:
        return self.images["path"].to_numpy()

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) int64: width and height in pixels, EXIF orientation applied."""
        return self.images[["width", "height"]].to_numpy(dtype=np.int64)

    def path(self, image: int) -> Path:
        return self.root / self._paths[image]

    def decode(self, image: int, reduction: int = 1) -> Image.Image:
        """The photo as an upright RGB PIL image; see `stages.data.decode.decode` for `reduction`."""
        return decode(self.path(image), reduction)

    def pixels(self, image: int, reduction: int = 1) -> np.ndarray:
        """The pixels of `decode(image, reduction)`, (H, W, 3) uint8 RGB; see `stages.data.decode.decode_pixels`."""
        with open(f"{self.root}/{self._paths[image]}", "rb", buffering=0) as file:  # a Path would take twice as long
            return decode_pixels(file.read(), reduction)

    @property
    def has_labels(self) -> bool:
        return (self.directory / "labels.parquet").is_file()

    @cached_property
    def labels(self) -> pd.DataFrame:
        """One row an object: image, category (index into `categories`), x0, y0, x1, y1, difficult, crowd, segmentation.

        Raises:
            ValueError: the data set has no labels.
        """
        if not self.has_labels:
            raise ValueError(
                f"the catalog of {self.root} has no labels. Evaluation needs them: use a data set in COCO or VOC "
                "format, or leave the labelled data sets out of the evaluation section."
            )
        return pd.read_parquet(self.directory / "labels.parquet")

    @cached_property
    def categories(self) -> list[str]:
        """Names of the categories, in the order of `labels.category`."""
        return json.loads((self.directory / "categories.json").read_text())
