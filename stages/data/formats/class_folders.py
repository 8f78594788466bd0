"""Format `class_folders`: the photos of each class in a folder of its name, as in ImageNet's train/."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from stages.data.formats.folder import SUFFIXES, files_below, in_order
from stages.data.formats.listing import Listing
from stages.data.texts import Texts


def read(root: Path) -> Listing:
    """All photos at any depth below the folders in `root`, sorted by path; the topmost folder is the class.

    The class is one of the photo as a whole (`Catalog.classes`), no box: where in the photo it is, a folder does not
    say. Photos that lie in `root` itself have no class; they are left out and counted.
    """
    ignored: Counter[str] = Counter()
    listed = in_order(files_below(root, SUFFIXES, ignored))
    classed = Texts.of(path for path in listed if "/" in path)
    if len(classed) < len(listed):
        ignored["(photo outside the folders of the classes)"] = len(listed) - len(classed)
    return Listing(classed, ignored=ignored, class_folders=True)
