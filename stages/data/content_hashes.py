"""SHA-256 of many files, remembered from run to run so that unchanged files are not read again."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from stages.process import ordered_map

UNREADABLE = "unreadable"
_CHUNK = 64
# File systems round times of change. A file changed this recently may change again without a new time.
_SETTLED_NS = 2 * 10**9

log = logging.getLogger(__name__)


def content_hashes(paths: list[Path], cache: Path | None, workers: int) -> list[str]:
    """SHA-256 (64 hex digits) of each file's content, or `UNREADABLE`, in the order of `paths`.

    Args:
        cache: Parquet file of known hashes (path, bytes, mtime_ns, sha256); read and updated, made where absent. A
            file is taken to be unchanged while its absolute path, size and time of change are the same. A damaged
            cache is made anew. Several data sets may share one.
        workers: threads; hashing releases the interpreter lock.
    """
    known = _read(cache) if cache is not None else {}
    absolute = [os.path.abspath(path) for path in paths]
    before = time.time_ns()
    chunks = [absolute[start : start + _CHUNK] for start in range(0, len(absolute), _CHUNK)]
    hash_chunk = functools.partial(_hash_chunk, known)
    with ThreadPoolExecutor(max(1, workers)) as threads:
        found = [entry for chunk in ordered_map(threads, hash_chunk, chunks, 4 * max(1, workers)) for entry in chunk]
    if cache is not None:
        fresh = {
            path: entry
            for path, entry in zip(absolute, found, strict=True)
            if entry[2] != UNREADABLE and entry[1] < before - _SETTLED_NS and known.get(path) != entry
        }
        if fresh:
            _write(cache, known | fresh)
    return [sha256 for _, _, sha256 in found]


def digest(path: Path, cache: Path | None) -> str:
    """SHA-256 (64 hex digits) of the content of a file, or of the names and contents of all files below a folder.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Correct the path in the configuration.")
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    names = [each.relative_to(path).as_posix() for each in files]
    pairs = zip(names, content_hashes(files, cache, workers=4), strict=True)
    return hashlib.sha256("".join(f"{sha256} {name}\0" for name, sha256 in pairs).encode()).hexdigest()


_Entry = tuple[int, int, str]  # bytes, mtime_ns, sha256


def _hash_chunk(known: dict[str, _Entry], paths: list[str]) -> list[_Entry]:
    return [_hash(path, known.get(path)) for path in paths]


def _hash(path: str, known: _Entry | None) -> _Entry:
    try:
        status = os.stat(path)
        if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
            return known
        with open(path, "rb") as file:
            return status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return 0, 0, UNREADABLE


def _read(cache: Path) -> dict[str, _Entry]:
    try:
        table = pd.read_parquet(cache, columns=["path", "bytes", "mtime_ns", "sha256"])
        columns = (table[name].tolist() for name in ("bytes", "mtime_ns", "sha256"))
        return dict(zip(table["path"], zip(*columns, strict=True), strict=True))
    except FileNotFoundError:
        return {}
    except Exception as error:  # whatever is wrong with a cache, the answer is to do without
        log.warning("The remembered file hashes in %s cannot be read (%s): all files are read again.", cache, error)
        return {}


def _write(cache: Path, entries: dict[str, _Entry]) -> None:
    paths = sorted(entries)
    table = pd.DataFrame(
        {
            "path": paths,
            "bytes": np.array([entries[path][0] for path in paths], dtype=np.int64),
            "mtime_ns": np.array([entries[path][1] for path in paths], dtype=np.int64),
            "sha256": [entries[path][2] for path in paths],
        }
    )
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(f"{cache.name}.{os.getpid()}.partial")
    try:
        table.to_parquet(partial, index=False)
        os.replace(partial, cache)
    finally:
        partial.unlink(missing_ok=True)
