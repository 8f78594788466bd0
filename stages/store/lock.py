"""A lock that the kernel releases when its holder dies: `flock` on a file, whose text says who holds it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.store.manifest import StoreError

log = logging.getLogger(__name__)


class Busy(StoreError):
    """Another process holds the lock and the caller did not want to wait."""


class Lock:
    """A lock that is held. `record` is kept in the file, for the people and processes that find it locked or left."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._descriptor = descriptor
        self.record: dict[str, Any] = read_record(path)

    def write(self, **fields: Any) -> None:
        """Adds `fields` to the record."""
        self.record |= fields
        data = json.dumps(self.record).encode()
        # In place: replacing the file would leave the lock on one that nobody finds.
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))


@contextmanager
def locked(path: Path, *, keep: Path, wait: bool = True) -> Iterator[Lock]:
    """Holds the exclusive lock on `path`; waits for it, or raises Busy.

    The file is removed at the end unless `keep` exists by then: what stays there is described by the record. The
    descriptor is not inherited by programs that the holder starts, so the lock ends with the holder itself.
    """
    descriptor = _acquire(path, wait)
    try:
        lock = Lock(path, descriptor)
        lock.write(pid=os.getpid(), host=socket.gethostname(), since=now())
        yield lock
    finally:
        # Only a holder removes the file, so what is checked here cannot change before the next line.
        if not keep.exists() and _is_at(descriptor, path):
            path.unlink()
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at this moment."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_record(path: Path) -> dict[str, Any]:
    """What the present or last holder wrote; empty where that is missing or cannot be read."""
    with suppress(OSError, ValueError):
        record = json.loads(path.read_bytes())
        if isinstance(record, dict):
            return record
    return {}


def holder(record: dict[str, Any]) -> str:
    return f"process {record.get('pid', '?')} on {record.get('host', '?')}, since {record.get('since', '?')}"


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _acquire(path: Path, wait: bool) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                who = holder(read_record(path))
                if not wait:
                    raise Busy(f"{path.stem} is being worked on by {who}. Wait for it or stop it.") from None
                if not told:
                    log.info("waiting for %s/%s, which is being worked on by %s", path.parent.name, path.stem, who)
                    told = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the former holder removed this file when it was done: lock the one that is there now


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
