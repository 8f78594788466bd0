"""Looking at every photo of a data set once, in worker processes: what is usable, and why the rest is not."""

from __future__ import annotations

import functools
import hashlib
import os
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.data import archives
from stages.data.catalog_writer import PHOTO
from stages.data.decode import MAX_BYTES, Rejection, inspect_content, read, rejection, too_many_bytes
from stages.data.formats import Listing
from stages.data.formats.folder import SUFFIXES
from stages.data.mapped import Mapped
from stages.data.texts import Texts
from stages.report import Report
from stages.shards import Engine, Shard, cut, make_shards

_SHARDS, _SMALLEST, _LARGEST = 256, 64, 4096
_LONGEST_CLASS = 4096  # bytes of a .cls member

# A row a file: a photo, or a path with `kind` and `reason` of its rejection.
FOUND = pa.schema([*PHOTO, ("kind", pa.string()), ("reason", pa.string())])

Inspect = Callable[[Path, int, list[str]], pa.RecordBatch]


def inspected(
    listing: Listing, root: Path, min_side: int, scratch: Path, engine: Engine, report: Report
) -> Iterator[pa.RecordBatch]:
    """Batches of `FOUND` in the order of `listing`; what an interrupted run has looked at is in `scratch` already.

    A shard is 64 to 4096 files, so that a small data set keeps several processes busy and a large one makes few; or
    one archive, which is read from front to back.
    """
    size = 1 if listing.archives else min(max(len(listing.paths) // _SHARDS, _SMALLEST), _LARGEST)
    shards = cut(len(listing.paths), scratch, ".parquet", size)
    # Workers map the listing, as each would otherwise get its share of it from a copy of the whole.
    arrays = Mapped(scratch / "paths.npy"), Mapped(scratch / "path_starts.npy")
    for file, array in zip(arrays, (listing.paths.text, listing.paths.starts), strict=True):
        if not file.path.exists():  # or a worker of the interrupted run may still look at it
            partial = file.path.with_suffix(".partial")
            with partial.open("wb") as whole:
                np.save(whole, array)
            os.replace(partial, file.path)
    inspect = inspect_archive if listing.archives else functools.partial(inspect_files, listing.class_folders)
    make = functools.partial(_make, *arrays, inspect, root, min_side)
    make_shards(make, shards, engine, report, "archives" if listing.archives else "images")
    for shard in shards:
        yield from pq.read_table(shard.path).to_batches()


def _make(text: Mapped, starts: Mapped, inspect: Inspect, root: Path, min_side: int, shard: Shard, path: Path) -> None:
    paths = list(Texts(text.array, starts.array).part(shard.first, shard.last))
    pq.write_table(pa.Table.from_batches([inspect(root, min_side, paths)]), path)


def inspect_files(class_folders: bool, root: Path, min_side: int, paths: list[str]) -> pa.RecordBatch:
    """Looks at files of their own."""
    rows = []
    for path in paths:
        row = _row(path, read(root / path), min_side)
        if class_folders:
            row["class"] = path.partition("/")[0]
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, schema=FOUND)


def inspect_archive(root: Path, min_side: int, paths: list[str]) -> pa.RecordBatch:
    """Looks at the photos in one archive; memory grows with the number of its members, not with their size."""
    (archive,) = paths
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    class_of: dict[str, str] = {}
    broken: Rejection | None = None
    try:
        with (root / archive).open("rb", buffering=0) as file:
            for member in archives.members(root / archive):
                suffix = os.path.splitext(member.name)[1].lower()
                if suffix in SUFFIXES:
                    content = _photo(member, file, seen)
                    place = {"offset": member.offset_data, "class": member.name}
                    rows.append(_row(f"{archive}/{_shown(member.name)}", content, min_side) | place)
                elif suffix == ".cls" and member.size <= _LONGEST_CLASS:
                    class_of[_key(member.name)] = _content(member, file).decode(errors="replace").strip()
    except archives.DamagedArchive as error:
        broken = Rejection("damaged archive", f"{error}. {len(rows)} photos come before that. Download it again")
    except OSError as error:
        broken = rejection(error)
    if broken is None and not rows:
        broken = Rejection("no photos", f"none of its files ends in {' '.join(sorted(SUFFIXES))}")
    for row in rows:
        row["class"] = class_of.get(_key(row["class"]))
    if broken is not None:
        rows.append(_row(archive, broken, min_side))
    return pa.RecordBatch.from_pylist(rows, schema=FOUND)


def _row(path: str, content: bytes | Rejection, min_side: int) -> dict[str, Any]:
    found = content if isinstance(content, Rejection) else inspect_content(content, min_side)
    if isinstance(found, Rejection):
        return {"path": path, "kind": found.kind, "reason": found.reason}
    assert isinstance(content, bytes), "inspected"
    sha256 = hashlib.sha256(content).digest()
    return {"path": path, "width": found.width, "height": found.height, "bytes": found.bytes, "sha256": sha256,
            "offset": -1}  # fmt: skip


def _photo(member: tarfile.TarInfo, file: BinaryIO, seen: set[str]) -> bytes | Rejection:
    """The content of a photo, unless its name could do harm to someone who unpacks the archive or is taken."""
    name = posixpath.normpath(member.name)
    if name.startswith(("/", "../")) or _shown(name) != name:
        return Rejection("unsafe name", "it leads out of the archive, or is not UTF-8")
    if name in seen:
        return Rejection("repeated name", "an earlier photo in the archive has the same")
    seen.add(name)
    return _content(member, file) if member.size <= MAX_BYTES else too_many_bytes(member.size)


def _content(member: tarfile.TarInfo, file: BinaryIO) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def _shown(name: str) -> str:
    """`name` in letters that can be written; those that are not UTF-8 come from `tarfile` as lone surrogates."""
    return name.encode(errors="replace").decode()


def _key(member: str) -> str:
    """What the files of one sample share: the name up to its first dot (WebDataset)."""
    folder, name = os.path.split(member)
    return f"{folder}/{name.partition('.')[0]}"
