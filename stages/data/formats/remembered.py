"""Listings that were read from large annotation files, remembered so that a plan does not parse them each time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stages.data.content_hashes import content_hashes
from stages.data.texts import Texts

# Raised by hand when a format starts to read something else from the same files.
_VERSION = 1


class Named(NamedTuple):
    """What annotations name: photos, and whether there are labels of them."""

    names: Texts
    labelled: bool


def remembered(cache: Path | None, files: list[Path], settings: list[Any], make: Callable[[], Named]) -> Named:
    """`make()`, or what it gave before for `files` of the same contents and the same `settings` (JSON values).

    Args:
        cache: the cache of `stages.data.content_hashes`, which spares the files to be hashed again; listings lie in the
            folder `listings` beside it. None to remember nothing.
    """
    if cache is None:
        return make()
    key = json.dumps([_VERSION, content_hashes(files, cache, workers=1), settings])
    path = cache.parent / "listings" / f"{hashlib.sha256(key.encode()).hexdigest()}.parquet"
    try:
        table = pq.read_table(path)
        return Named(Texts.from_arrow(table["name"]), table.schema.metadata[b"labelled"] == b"yes")
    except (OSError, KeyError, TypeError, pa.ArrowException):  # not there, or damaged: then it is made anew
        found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"name": found.names.arrow()}).replace_schema_metadata(
        {"labelled": "yes" if found.labelled else "no"}
    )
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        pq.write_table(table, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return found
