"""SHA-256 of many files, remembered from run to run so that unchanged files are not read again."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from stages.process import ordered_map

UNREADABLE = bytes(32)  # in place of a hash; no content is known that has this one
_CHUNK = 64
# File systems round times of change. A file changed this recently may change again without a new time.
_SETTLED_NS = 2 * 10**9
_SECONDS_BETWEEN_SAVES = 300.0
# Rows of the cache: two words that stand for the path, then bytes, time of change, and four words of the hash.
_PATH, _STATUS, _HASH = slice(0, 2), slice(2, 4), slice(4, 8)

log = logging.getLogger(__name__)


class ContentHashes:
    """Hashes files in a `with` statement, at the end of which (and every five minutes) the new ones are remembered.

    The cache is a .npy file, (8, n) uint64, that is mapped into memory: a column a file, in the order of the first row.
    A file is known by the 16-byte BLAKE2b of its absolute path and taken to be unchanged while its size and its time of
    change are the same. So ten million files are 640 MB on the disk, of which only what is looked up is read; in
    memory there are 64 bytes a file for those that are new, and twice as many for all while they are saved. A damaged
    cache is made anew. Several data sets may share one.
    """

    def __init__(self, cache: Path | None, workers: int) -> None:
        """workers: threads; hashing releases the interpreter lock."""
        self._cache, self._workers = cache, max(1, workers)
        self._known = _read(cache)
        self._fresh: list[np.ndarray] = []
        self._saved_at = time.monotonic()

    def of(self, paths: Iterable[str | Path]) -> np.ndarray:
        """(number of paths, 32) uint8: SHA-256 of each file's content, or `UNREADABLE`."""
        absolute = [os.path.abspath(path) for path in paths]
        settled = time.time_ns() - _SETTLED_NS
        chunks = [absolute[start : start + _CHUNK] for start in range(0, len(absolute), _CHUNK)]
        found = [np.empty((8, 0), np.uint64)]
        with ThreadPoolExecutor(self._workers) as threads:
            hash_chunk = functools.partial(_hash_chunk, self._known)
            for columns, fresh in ordered_map(threads, hash_chunk, chunks, 4 * self._workers):
                found.append(columns)
                self._fresh.append(columns[:, fresh & (columns[3] < settled)])
                if time.monotonic() - self._saved_at > _SECONDS_BETWEEN_SAVES:
                    self._save()
        return np.ascontiguousarray(np.concatenate(found, axis=1)[_HASH].T).view(np.uint8)

    def _save(self) -> None:
        fresh = np.concatenate([np.empty((8, 0), np.uint64), *self._fresh], axis=1)
        self._saved_at, self._fresh = time.monotonic(), []
        if self._cache is None or not fresh.shape[1]:
            return
        _, last = np.unique(fresh[0, ::-1], return_index=True)  # of a file that was hashed twice the later
        fresh = fresh[:, fresh.shape[1] - 1 - last]
        kept = self._known[:, ~np.isin(self._known[0], fresh[0])]
        merged = np.concatenate([kept, fresh], axis=1)
        _write(self._cache, merged[:, np.argsort(merged[0])])
        self._known = _read(self._cache)

    def __enter__(self) -> ContentHashes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._save()


def content_hashes(paths: Sequence[Path], cache: Path | None, workers: int) -> list[str]:
    """The hashes of a few files, 64 hexadecimal digits each, 64 zeros for one that can't be read.

    Args:
        cache, workers: see `ContentHashes`.
    """
    with ContentHashes(cache, workers) as hashes:
        return [row.tobytes().hex() for row in hashes.of(paths)]


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


class _Status(NamedTuple):
    bytes: int
    mtime_ns: int


def _hash_chunk(known: np.ndarray, paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """A column of the cache for each path, and which of them are new to it; both of no use for unreadable files."""
    columns = np.zeros((8, len(paths)), np.uint64)
    digests = b"".join(hashlib.blake2b(os.fsencode(path), digest_size=16).digest() for path in paths)
    columns[_PATH] = np.frombuffer(digests, np.uint64).reshape(-1, 2).T
    statuses = [_status(path) for path in paths]
    columns[_STATUS] = np.array([each or (0, 0) for each in statuses], np.uint64).T
    readable = np.array([each is not None for each in statuses])
    places = np.minimum(np.searchsorted(known[0], columns[0]), max(0, known.shape[1] - 1))
    remembered = known[:, places] if known.shape[1] else np.zeros_like(columns)
    unchanged = (remembered[:4] == columns[:4]).all(axis=0) & readable
    columns[_HASH] = np.where(unchanged, remembered[_HASH], 0)
    fresh = np.zeros(len(paths), bool)
    for index in np.flatnonzero(~unchanged).tolist():
        content = _hash(paths[index]) if readable[index] else UNREADABLE
        columns[_HASH, index] = np.frombuffer(content, np.uint64)
        fresh[index] = content != UNREADABLE
    return columns, fresh


def _status(path: str) -> _Status | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return _Status(status.st_size, max(0, status.st_mtime_ns))


def _hash(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return UNREADABLE


def _read(cache: Path | None) -> np.ndarray:
    nothing = np.empty((8, 0), np.uint64)
    if cache is None or not cache.exists():
        return nothing
    try:
        known = np.load(cache, mmap_mode="r", allow_pickle=False)
        if known.dtype != np.uint64 or known.ndim != 2 or len(known) != 8:
            raise ValueError(f"{known.dtype} of shape {known.shape}")
        return known
    except Exception as error:  # whatever is wrong with a cache, the answer is to do without
        log.warning("The remembered file hashes in %s cannot be read (%s): all files are read again.", cache, error)
        return nothing


def _write(cache: Path, columns: np.ndarray) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(f"{cache.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.save(file, columns)
        os.replace(partial, cache)
    finally:
        partial.unlink(missing_ok=True)
