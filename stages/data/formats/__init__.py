"""Data set formats, one file each, behind one function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.data.formats import class_folders, coco, folder, openimages, voc, webdataset
from stages.data.formats import list_file as _list_file_format
from stages.data.formats.listing import Labels, Listing

__all__ = ["FORMATS", "Labels", "Listing", "Source", "read_listing"]

FORMATS = ("folder", "class_folders", "coco", "voc", "openimages", "list_file", "webdataset", "joined")


@dataclass(frozen=True)
class Source:
    """Where the photos of a data set come from.

    Attributes:
        format: one of `FORMATS`.
        root: the folder that all paths are relative to; for `joined` one folder a part.
        annotations: `coco`: the JSON file. `openimages`: the CSV of boxes.
        split: `voc`: name of a file in ImageSets/Main, such as `trainval`. `webdataset`: a pattern that chooses shards.
        list_file: `list_file`: a text file with one path a line.
        class_names: `openimages`: the CSV with the names of the classes, or None.
        min_classes, min_images_per_class: `openimages`: which photos and classes are taken.
        parts: `joined`: the other attributes of each part, in the order of `root`.
    """

    format: str
    root: Path | Sequence[Path]
    annotations: Path | None = None
    split: str | None = None
    list_file: Path | None = None
    class_names: Path | None = None
    min_classes: int = 1
    min_images_per_class: int = 1
    parts: Sequence[Mapping[str, Any]] = ()

    def each(self) -> list[tuple[Path, Source]]:
        """The parts with their roots; the data set itself where it is not joined."""
        if self.format != "joined":
            if not isinstance(self.root, str | Path):
                raise ValueError(f"dataset.format={self.format} has one root, not {self.root!r}.")
            return [(Path(self.root), self)]
        if isinstance(self.root, str | Path) or len(self.root) != len(self.parts) or not self.parts:
            raise ValueError(
                f"dataset.format=joined needs dataset.parts, and a root for each: there are {len(self.parts)} parts, "
                f"and the root is {self.root!r}."
            )
        return [(Path(root), Source(**part, root=root)) for root, part in zip(self.root, self.parts, strict=True)]


def read_listing(source: Source, root: Path, cache: Path | None = None) -> Listing:
    """Which photos a data set, or a part of one, holds, and how to read its labels.

    Args:
        source, root: one of `Source.each`.
        cache: see `stages.data.formats.remembered`.

    Raises:
        ValueError, FileNotFoundError: a setting is missing or wrong; the message says which and what to do.
    """
    if source.format not in FORMATS or source.format == "joined":
        known = ", ".join(name for name in FORMATS if name != "joined")
        raise ValueError(f"dataset.format={source.format!r} is unknown. Choose one of: {known}.")
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise FileNotFoundError(f"dataset.root={root} {problem}. Set it to the folder that holds the photos.")
    if source.format == "coco":
        return coco.read(root, _existing(source, "annotations"), cache)
    if source.format == "openimages":
        class_names = None if source.class_names is None else _existing(source, "class_names")
        chosen = openimages.Subset(source.min_classes, source.min_images_per_class)
        return openimages.read(root, _existing(source, "annotations"), class_names, chosen, cache)
    if source.format == "voc":
        if not source.split:
            raise ValueError("dataset.format=voc needs dataset.split, a file in ImageSets/Main such as trainval.")
        return voc.read(root, source.split)
    if source.format == "webdataset":
        return webdataset.read(root, source.split)
    if source.format == "list_file":
        return _list_file_format.read(root, _existing(source, "list_file"))
    return class_folders.read(root) if source.format == "class_folders" else folder.read(root)


def _existing(source: Source, setting: str) -> Path:
    path = getattr(source, setting)
    if path is None:
        raise ValueError(f"dataset.format={source.format} needs dataset.{setting}, the path of a file.")
    if not path.is_file():
        raise FileNotFoundError(f"dataset.{setting}={path} does not exist or is no file. Correct the path.")
    return path
