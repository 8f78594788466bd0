"""Format `folder`: every photo in a folder and the folders below it. No labels."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from stages.data.formats.listing import Listing

# fmt: off
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k",
))
# fmt: on


def read(root: Path) -> Listing:
    """All files with an image suffix (in upper or lower case), sorted by path. Hidden files and folders are skipped.

    Linked folders are followed, but no folder is entered twice: a link to a folder that is in the tree anyway, or
    back up the tree, adds nothing.
    """
    paths: list[str] = []
    ignored: Counter[str] = Counter()
    entered: set[tuple[int, int]] = set()
    links: list[str] = []  # entered last, so that a photo is listed below its real folder where it has one

    def walk(folder: str) -> None:
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            status = os.stat(root / folder)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    # os.path.isdir, because DirEntry.is_dir raises on a link to itself.
                    if entry.is_symlink() and os.path.isdir(entry):
                        links.append(path)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif not _is_utf8(entry.name):
                        ignored["(file name that is not UTF-8)"] += 1
                    elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                        paths.append(path)
                    else:
                        ignored[os.path.splitext(entry.name)[1].lower() or "(no suffix)"] += 1

    walk("")
    while links:
        links.sort(reverse=True)
        walk(links.pop())
    return Listing(sorted(paths), ignored=ignored)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
