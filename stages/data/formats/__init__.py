"""Data set formats, one file each, behind one function."""

from __future__ import annotations

from pathlib import Path

from stages.data.formats import coco, folder, voc
from stages.data.formats import list_file as _list_file_format
from stages.data.formats.listing import Labels, Listing

__all__ = ["FORMATS", "Labels", "Listing", "read_listing"]

FORMATS = ("folder", "coco", "voc", "list_file")


def read_listing(
    *, format: str, root: Path, annotations: Path | None, split: str | None, list_file: Path | None
) -> Listing:
    """Which photos the data set holds, and how to read its labels.

    Args:
        format: one of `FORMATS`.
        root: the folder that all paths are relative to.
        annotations: `coco` only: the JSON file.
        split: `voc` only: name of a file in ImageSets/Main, such as `trainval`.
        list_file: `list_file` only: a text file with one path a line.

    Raises:
        ValueError, FileNotFoundError: a setting is missing or wrong; the message says which and what to do.
    """
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise FileNotFoundError(f"dataset.root={root} {problem}. Set it to the folder that holds the photos.")
    if format == "folder":
        return folder.read(root)
    if format == "coco":
        return coco.read(root, _existing("annotations", annotations, format))
    if format == "voc":
        if not split:
            raise ValueError("dataset.format=voc needs dataset.split, a file in ImageSets/Main such as trainval.")
        return voc.read(root, split)
    if format == "list_file":
        return _list_file_format.read(root, _existing("list_file", list_file, format))
    raise ValueError(f"dataset.format={format!r} is unknown. Choose one of: {', '.join(FORMATS)}.")


def _existing(setting: str, path: Path | None, format: str) -> Path:
    if path is None:
        raise ValueError(f"dataset.format={format} needs dataset.{setting}, the path of a file.")
    if not path.is_file():
        raise FileNotFoundError(f"dataset.{setting}={path} does not exist or is no file. Correct the path.")
    return path
