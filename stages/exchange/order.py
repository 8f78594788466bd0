"""Which photo of a catalog stands at each place of an official file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from stages.data.catalog import Catalog
from stages.exchange import json_stream

NAMES = "images.file_name"
_SHOWN = 3


def photo_numbers(path: Path, photos: Catalog) -> np.ndarray:
    """(N,) int64: for each place in the lists of `path`, the number of that photo in the catalog.

    Photos are matched by the last part of their path where that tells all photos of the catalog apart, else by the
    path relative to the root. Of a name only a hash is kept, 8 bytes, so that millions of them fit into memory.

    Args:
        path: an official JSON file with `images.file_name`, or a text file with one name a line, which is what the
            official code's lists are (`train2017.txt`).

    Raises:
        ValueError: the file does not name just the photos of the catalog, each once.
    """
    whole = _keys(_names(photos))
    short = _keys(_last_parts(_names(photos)))
    by_last_part = len(np.unique(short)) == len(photos)
    known, listed = (short if by_last_part else whole), _keys(_listed(path, by_last_part))
    if len(np.unique(listed)) < len(listed):
        raise ValueError(f"{path} names a photo twice: {_twice(path, by_last_part, listed)}. {_REMEDY}")

    order = np.argsort(known)
    place = np.searchsorted(known[order], listed).clip(max=len(known) - 1)
    found = known[order][place] == listed
    if not found.all() or len(listed) != len(known):
        here = [name for name, key in zip(_names(photos), np.isin(known, listed), strict=True) if not key]
        there = [name for name, has in zip(_listed(path, False), found, strict=True) if not has]
        raise ValueError(
            f"{path} is of another data set: it names {len(listed)} photos, the catalog of {photos.root} has "
            f"{len(known)}. Only in the file: {_some(there)}. Only in the catalog: {_some(here)}. {_REMEDY}"
        )
    return order[place]


_REMEDY = "Use files that were made from just the photos of `dataset`, or set `dataset` to the photos of the files."


def _names(photos: Catalog) -> Iterator[str]:
    return (photos.name(image) for image in range(len(photos)))


def _last_parts(names: Iterable[str]) -> Iterator[str]:
    return (name.rpartition("/")[2] for name in names)


def _listed(path: Path, last_part: bool) -> Iterator[str]:
    names = _lines(path) if path.suffix == ".txt" else _texts(path)
    return _last_parts(names) if last_part else (str(PurePosixPath(name)) for name in names)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from (line.strip() for line in file if line.strip())


def _texts(path: Path) -> Iterator[str]:
    found = False
    for name in json_stream.items(path, NAMES):
        if not isinstance(name, str):
            raise ValueError(f"{path}: {NAMES} holds {name!r} where the name of a photo is due. {_REMEDY}")
        found = True
        yield name
    if not found:
        raise ValueError(
            f"{path} has no list {NAMES}, so that it cannot be told which photos it is about. Of the official files "
            "those of neighbours and of correspondence have one; for proposals give one of them, or the text file of "
            "names, as exchange.order."
        )


def _keys(names: Iterable[str]) -> np.ndarray:
    """(n,) uint64. Two of ten million different names have equal keys in one of 400,000 data sets."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.fromiter((int.from_bytes(digest) for digest in digests), np.uint64)


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in islice(names, _SHOWN)) or "none"
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _twice(path: Path, last_part: bool, keys: np.ndarray) -> str:
    values, counts = np.unique(keys, return_counts=True)
    repeated = np.isin(keys, values[counts > 1])
    return _some([name for name, again in zip(_listed(path, last_part), repeated, strict=True) if again])
