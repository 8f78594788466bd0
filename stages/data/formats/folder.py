"""Format `folder`: every photo in a folder and the folders below it. No labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pyarrow.compute as pc

from stages.data.formats.listing import Listing
from stages.data.texts import Texts

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
    ignored: Counter[str] = Counter()
    return Listing(in_order(files_below(root, SUFFIXES, ignored)), ignored=ignored)


def files_below(root: Path, suffixes: Collection[str], ignored: Counter[str]) -> Iterator[str]:
    """Paths relative to `root` of the files with one of `suffixes`, in no order; counts the others in `ignored`."""
    entered: set[tuple[int, int]] = set()
    links: list[str] = []  # entered last, so that a photo is listed below its real folder where it has one

    def walk(folder: str) -> Iterator[str]:
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
                    suffix = os.path.splitext(entry.name)[1].lower()
                    # os.path.isdir, because DirEntry.is_dir raises on a link to itself.
                    if entry.is_symlink() and os.path.isdir(entry):
                        links.append(path)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif not _is_utf8(path):
                        ignored["(file name that is not UTF-8)"] += 1
                    elif suffix in suffixes:
                        yield path
                    else:
                        ignored[suffix or "(no suffix)"] += 1

    yield from walk("")
    while links:
        links.sort(reverse=True)
        yield from walk(links.pop())


def in_order(paths: Iterable[str]) -> Texts:
    """The paths, sorted. UTF-8 sorts as its characters do."""
    found = Texts.of(paths).arrow()
    return Texts.from_arrow(found.take(pc.array_sort_indices(found)))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
