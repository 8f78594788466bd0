"""The boxes of each photo, read from the folder of step `regions`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.data.box_geometry import Box
from stages.data.boxes import Boxes

PHOTOS_AT_A_TIME = 2**16  # in passes over all of them
_REMEDY = "The files are not of one run: run the steps catalog and regions again, in this order."


class PhotoBoxes(Boxes):
    """Boxes to draw from: every photo has one. Found in constant time, in memory that all worker processes share."""

    def __init__(self, regions: Path, images: int) -> None:
        """
        Args:
            regions: directory of the step `regions`.
            images: N, the photos of the catalog.

        Raises:
            ValueError: a photo has no box, or the files do not fit each other or the photos.
        """
        super().__init__(regions)
        self.check(images)
        for first in range(0, images, PHOTOS_AT_A_TIME):
            counts = np.diff(self.starts[first : first + PHOTOS_AT_A_TIME + 1])
            check_each_has("box", counts, first, _REMEDY)

    def count(self, image: int) -> int:
        """How many boxes photo `image` has, at least 1."""
        first, end = self.starts[image : image + 2].tolist()
        return end - first

    def box(self, image: int, roi: int) -> Box:
        """Box number `roi` of photo `image`, from 0 on."""
        x0, y0, x1, y1 = self.corners[int(self.starts[image]) + roi].tolist()
        return x0, y0, x1, y1


def check_each_has(thing: str, counts: np.ndarray, first: int, remedy: str) -> None:
    """Raises ValueError where a count is 0. counts: (n,) things of each of the photos from number `first` on."""
    empty = np.flatnonzero(counts <= 0)
    if len(empty):
        raise ValueError(
            f"image {first + empty[0]} (its row in images.parquet) has no {thing}, but one of every photo is drawn in "
            f"every epoch. {remedy}"
        )
