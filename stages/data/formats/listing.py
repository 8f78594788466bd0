"""What every data set format yields: the photos' paths and, where there are, labels."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from stages.data.texts import Texts


@dataclass(frozen=True)
class Labels:
    """Objects as the annotations give them: not yet clipped to the photos, and of photos that may prove unusable.

    Attributes:
        categories: names; `objects.category` indexes them.
        objects: one row an object: image int32 (index into `Listing.paths`), category int32; x0, y0, x1, y1 float64
            in pixels, half-open; difficult and crowd bool; segmentation: COCO's polygons or RLE as JSON text, or None.
        sizes: (number of paths, 2) int64, width and height that the annotations claim, 0 where they say nothing; None
            where they never do.
        relative: boxes are in shares of the photo's width and height instead of pixels.
    """

    categories: list[str]
    objects: pd.DataFrame
    sizes: np.ndarray | None
    relative: bool = False


@dataclass(frozen=True)
class Listing:
    """The photos of a data set; nothing of them has been read yet.

    Attributes:
        paths: relative to the root, POSIX style, each once, in an order that does not depend on the machine. Of photos,
            or of the archives that hold them.
        annotation_files: what the labels are read from; part of the data set's fingerprint.
        read_labels: reads them; None where the data set has no labels.
        ignored: how many files were passed over, by suffix.
        class_folders: the topmost folder of a path is the class of the photo.
        archives: `paths` are tar archives.
    """

    paths: Texts
    annotation_files: list[Path] = field(default_factory=list)
    read_labels: Callable[[], Labels] | None = None
    ignored: Counter[str] = field(default_factory=Counter)
    class_folders: bool = False
    archives: bool = False


def object_table(rows: list[tuple]) -> pd.DataFrame:
    """`Labels.objects` of rows (image, category, x0, y0, x1, y1, difficult, crowd, segmentation)."""
    table = pd.DataFrame.from_records(
        rows, columns=["image", "category", "x0", "y0", "x1", "y1", "difficult", "crowd", "segmentation"]
    )
    numbers = {"image": "int32", "category": "int32"} | dict.fromkeys(("x0", "y0", "x1", "y1"), "float64")
    return table.astype(numbers | {"difficult": "bool", "crowd": "bool", "segmentation": "str"})


def inside_root(path: str, root: Path, source: Path) -> str:
    """`path` from the file `source`, relative to `root` in POSIX style.

    Raises:
        ValueError: it leads out of `root`: a list from elsewhere must not reach any file of this machine.
    """
    normal, top = posixpath.normpath(path), posixpath.normpath(root.absolute().as_posix())
    if normal.startswith(f"{top}/"):
        normal = normal[len(top) + 1 :]
    if normal.startswith(("/", "../")) or normal == "..":
        raise ValueError(
            f"{source} names the photo {path!r}, which lies outside dataset.root ({root}). "
            "Paths must stay inside the root: set dataset.root to a folder that holds all photos."
        )
    return normal
