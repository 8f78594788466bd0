"""What a classifier has to say of a photo: its one class (ImageNet and other folders of classes), or all classes that
have objects in it (VOC, COCO, OpenImages). Read by need, so that memory does not grow with the number of photos."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from stages.data.catalog import Catalog
from stages.data.mapped import Mapped
from stages.data.npy_file import NpyWriter
from stages.learning.distributed import any_process, rank

# Of a photo with only difficult objects of a class, or of one without a class at all: neither right nor wrong.
UNKNOWN = -1

_PHOTOS_AT_ONCE = 8192


class Targets(Protocol):
    """Of each photo of a catalog. Pickles as paths.

    Attributes:
        single: whether each photo has one class, named by its number; else it has a row of all classes.
        classes: K, how many there are.
    """

    single: bool
    classes: int

    def __len__(self) -> int: ...

    def of(self, image: int) -> np.ndarray:
        """With `single` () int64, the class or UNKNOWN; else (K,) float32: 1, 0, or UNKNOWN with difficult objects of
        the class only."""

    def usable(self) -> np.ndarray:
        """Numbers of the photos that have labels, ascending. int64."""


def open_targets(catalog: Catalog, directory: Path) -> Targets:
    """Targets from the labels of `catalog`; where those are boxes, tables of the classes are written to `directory`.

    Raises:
        ValueError: the data set has no labels; says which layouts have.
    """
    if catalog.classes is not None:
        return _OneClass(Mapped(catalog.directory / "classes.npy"), len(catalog.categories))
    if not catalog.has_labels:
        raise ValueError(
            f"the catalog of {catalog.root} has no labels to train or test on. Expected is a folder a class "
            "(root/train/CLASS/*.jpg, format 'class_folders': ImageNet from image-net.org, Places205 from "
            "places.csail.mit.edu, iNaturalist from github.com/visipedia/inat_comp), or a data set in VOC, COCO or "
            "OpenImages format, whose photos count for each class that has an object in them."
        )
    if rank() == 0:
        directory.mkdir(parents=True, exist_ok=True)
        _write_tables(catalog, directory)
    any_process(False)  # the others wait for it
    return _ManyClasses(Mapped(directory / "starts.npy"), Mapped(directory / "entries.npy"), len(catalog.categories))


class _OneClass:
    single = True

    def __init__(self, numbers: Mapped, classes: int) -> None:
        self._numbers, self.classes = numbers, classes

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, image: int) -> np.ndarray:
        return np.array(self._numbers.array[image], np.int64)

    def usable(self) -> np.ndarray:
        return np.flatnonzero(self._numbers.array != UNKNOWN)


class _ManyClasses:
    """Classes of photo i: entries[starts[i] : starts[i + 1]], each as k, or ~k where all its objects are difficult."""

    single = False

    def __init__(self, starts: Mapped, entries: Mapped, classes: int) -> None:
        self._starts, self._entries, self.classes = starts, entries, classes

    def __len__(self) -> int:
        return len(self._starts) - 1

    def of(self, image: int) -> np.ndarray:
        first, last = self._starts.array[image : image + 2].tolist()
        entries = self._entries.array[first:last]
        row = np.zeros(self.classes, np.float32)
        row[~entries[entries < 0]] = UNKNOWN
        row[entries[entries >= 0]] = 1
        return row

    def usable(self) -> np.ndarray:
        return np.arange(len(self))  # a photo without objects is one without any of the classes


def _write_tables(catalog: Catalog, directory: Path) -> None:
    """starts.npy and entries.npy of `_ManyClasses`, from a part of the objects at a time. A crowd counts as an object:
    the class is in the photo."""
    with (
        NpyWriter(directory / "starts.npy", np.int64) as starts,
        NpyWriter(directory / "entries.npy", np.int32) as entries,
    ):
        for first in range(0, len(catalog), _PHOTOS_AT_ONCE):
            last = min(first + _PHOTOS_AT_ONCE, len(catalog))
            objects = catalog.labels_of(first, last, ["image", "category", "difficult"])
            sets = objects.groupby(["image", "category"])["difficult"].all().reset_index()
            category = sets["category"].to_numpy(np.int32)
            counts = np.bincount(sets["image"].to_numpy() - first, minlength=last - first)
            starts.append(entries.rows + np.cumsum(counts) - counts)
            entries.append(np.where(sets["difficult"].to_numpy(bool), ~category, category))
        starts.append(np.array([entries.rows]))
