"""The labelled objects of photos in memory-mapped arrays: those of any photo in microseconds, from any process.

A catalog keeps its objects as Parquet, which decompresses a block of 8,192 rows to find one: 21 ms for the objects of a
photo, more than it takes to decode the photo.

    starts.npy          (N + 1,) int64: first object of each photo
    boxes.npy           (M, 4) float32: x0, y0, x1, y1
    categories.npy      (M,) int32
    outlines.npy        (bytes,) uint8: COCO's segmentation of each object as JSON text, end to end
    outline_starts.npy  (M + 1,) int64
"""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from pathlib import Path

import numpy as np

from stages.data.catalog import Catalog
from stages.data.mapped import Mapped
from stages.data.npy_file import NpyWriter
from stages.data.texts import Texts

_PHOTOS_AT_ONCE = 1024
_COLUMNS = ("image", "category", "x0", "y0", "x1", "y1", "crowd")


class LabelledObjects:
    """The arrays in `directory`, which `write_objects` has made. Pickles as its path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._starts, self._boxes = Mapped(directory / "starts.npy"), Mapped(directory / "boxes.npy")
        self._categories = Mapped(directory / "categories.npy")

    def __getstate__(self) -> Path:
        return self.directory

    def __setstate__(self, directory: Path) -> None:
        self.__init__(directory)  # type: ignore[misc]

    @property
    def photos(self) -> np.ndarray:
        """The photos that have objects, ascending int64."""
        return np.flatnonzero(np.diff(self._starts.array))

    def of(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (m, 4) float32 in pixels of the photo, half-open, and categories (m,) int64."""
        first, last = self._starts.array[image : image + 2].tolist()
        return np.array(self._boxes.array[first:last]), self._categories.array[first:last].astype(np.int64)

    def outlines_of(self, image: int) -> list[str]:
        """COCO's segmentation of each object as JSON text."""
        first, last = self._starts.array[image : image + 2].tolist()
        return [self._outlines[number] for number in range(first, last)]

    @cached_property
    def _outlines(self) -> Texts:
        return Texts(
            *(np.load(self.directory / name, mmap_mode="r") for name in ("outlines.npy", "outline_starts.npy"))
        )


def write_objects(catalog: Catalog, directory: Path, *, masks: bool) -> LabelledObjects:
    """Lays out the objects of `catalog` in `directory`, unless they are there: all but crowds, which no detector learns
    from (they mark places where single objects are not told apart). Difficult objects stay, as in Detectron2.

    Args:
        masks: with outlines.

    Raises:
        ValueError: the catalog has no labels, or, with `masks`, objects without outlines.
    """
    if directory.is_dir():
        return LabelledObjects(directory)
    draft = directory.with_name(f"{directory.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    columns = [*_COLUMNS, "segmentation"] if masks else list(_COLUMNS)
    with (
        NpyWriter(draft / "starts.npy", np.int64) as starts,
        NpyWriter(draft / "boxes.npy", np.float32, (4,)) as boxes,
        NpyWriter(draft / "categories.npy", np.int32) as categories,
        NpyWriter(draft / "outlines.npy", np.uint8) as outlines,
        NpyWriter(draft / "outline_starts.npy", np.int64) as outline_starts,
    ):
        starts.append(np.zeros(1))
        outline_starts.append(np.zeros(1))
        for first in range(0, len(catalog), _PHOTOS_AT_ONCE):
            last = min(first + _PHOTOS_AT_ONCE, len(catalog))
            objects = catalog.labels_of(first, last, columns)
            objects = objects[~objects["crowd"].astype(bool)].sort_values("image", kind="stable")
            ends = np.searchsorted(objects["image"], np.arange(first, last), side="right")
            starts.append(boxes.rows + ends)
            boxes.append(objects[["x0", "y0", "x1", "y1"]].to_numpy())
            categories.append(objects["category"].to_numpy())
            if masks:
                if objects["segmentation"].isna().any():
                    raise ValueError(
                        f"some objects of {catalog.root} have a box alone, and masks are to be learned: take a data "
                        "set with segmentations (COCO, LVIS), or a protocol of boxes."
                    )
                texts = Texts.of(objects["segmentation"])
                outline_starts.append(outlines.rows + texts.starts[1:])
                outlines.append(texts.text)
    os.replace(draft, directory)
    return LabelledObjects(directory)
