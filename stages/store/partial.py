"""An artifact while it is being made: where the step writes, and how that is published."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.store.key import Key
from stages.store.lock import Lock, now
from stages.store.manifest import (
    MANIFEST_FILE,
    SCHEMA,
    Artifact,
    StoreError,
    file_names,
    git_revision,
    last_change,
    library_versions,
    sha256,
    sync_directory,
)

if TYPE_CHECKING:
    from stages.store.store import Store

log = logging.getLogger(__name__)


class Partial:
    """What `Store.build` gives: either `artifact` is there already, or the work is to be done in `path`.

    Attributes:
        artifact: the artifact, where it was there already and once it is published; else None.
    """

    def __init__(
        self,
        store: Store,
        key: Key,
        *,
        artifact: Artifact | None,
        seed: int | None = None,
        device: str | None = None,
        lock: Lock | None = None,
        fresh: bool = False,
    ) -> None:
        self.artifact = artifact
        self._store, self._key, self._lock = store, key, lock
        self._provenance: dict[str, Any] = {"seed": seed, "device": device}
        self._path = store.path(key.step, key.version, "partial")
        self._began = time.monotonic()
        self._attempts: list[dict[str, Any]] = []
        if artifact is None and lock is not None:
            self._begin(lock, fresh)

    @property
    def path(self) -> Path:
        """The directory to write into. It may hold what a former attempt left.

        Raises:
            StoreError: the artifact is there already, so there is nothing to do.
        """
        if self.artifact is not None:
            raise StoreError(f"{self.artifact.path} is there already: look at `artifact` before you work.")
        return self._path

    def publish(self, metrics: Mapping[str, Any]) -> Artifact:
        """Makes what lies in `path` the artifact: from now on it is whole, and found.

        Everything in `path` becomes part of it but the folder `scratch`, which is deleted. The manifest is written
        last, when all files are on the disk. After a crash on the way, the next `build` does what is left.

        Args:
            metrics: final figures of the step, JSON values. Numbers that are not finite become null, with a warning.

        Raises:
            StoreError: there are no files, or one of them cannot be part of an artifact.
            ValueError: a metric is not a JSON value.
        """
        path, key = self.path, self._key
        figures = {name: _metric(value, name) for name, value in metrics.items()}
        if (path / MANIFEST_FILE).exists():
            raise StoreError(f"the step wrote {path / MANIFEST_FILE}: that name is the store's. Use another.")
        files = _record_files(path)
        manifest = {
            "schema": SCHEMA,
            "step": key.step,
            "version": key.version,
            "key": key.as_dict(),
            "inputs": dict(key.inputs),
            "files": files,
            "metrics": figures,
            **self._provenance,
            "libraries": library_versions(),
            "python": platform.python_version(),
            "host": socket.gethostname(),
            "start": self._attempts[0]["start"],
            "end": now(),
            "seconds": round(sum(attempt["seconds"] for attempt in self._attempts[:-1]) + self._seconds(), 3),
            "attempts": len(self._attempts),
            "peak_memory_bytes": _peak_memory(),
        }
        with (path / MANIFEST_FILE).open("x", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        self.artifact = self._store.publish_directory(key)
        return self.artifact

    def close(self) -> None:
        """Notes how long this attempt took, for the next one. `Store.build` calls it."""
        if self.artifact is None and self._lock is not None:
            self._attempts[-1]["seconds"] = self._seconds()
            try:
                self._lock.write(attempts=self._attempts)
            except OSError:  # a full disk, say: the reason why we are here is the one to be heard of
                log.warning("could not note the duration of this attempt beside %s", self._path)

    def _begin(self, lock: Lock, fresh: bool) -> None:
        resumed = self._path.is_dir() and not fresh
        if resumed:
            log.info("resuming %s", self._path)
            self._attempts = [_closed(attempt, self._path) for attempt in lock.record.get("attempts", [])]
        self._path.mkdir(exist_ok=True)
        self._attempts.append({"start": now(), "seconds": None})
        self._provenance["git"] = git_revision()  # now, not at the end: this is the code that was loaded
        lock.write(key=self._key.as_dict(), attempts=self._attempts)

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)


def _closed(attempt: dict[str, Any], path: Path) -> dict[str, Any]:
    """An attempt that was killed could not say when: it lasted at least until it last wrote a file."""
    if attempt["seconds"] is not None:
        return attempt
    start = datetime.fromisoformat(attempt["start"]).timestamp()
    return attempt | {"seconds": round(max(last_change(path) - start, 0.0), 3)}


def _record_files(path: Path) -> list[dict[str, Any]]:
    """Name, size and digest of each file, all of them synced to the disk."""
    files, folders = [], {path}
    for name in file_names(path):
        if (path / name).is_symlink() or not (path / name).is_file():
            raise StoreError(f"{path / name} is not a plain file. An artifact holds nothing else: write the content.")
        size, digest = sha256(path / name, sync=True)
        files.append({"name": name, "bytes": size, "sha256": digest})
        folders.update(folder for folder in (path / name).parents if folder.is_relative_to(path))
    if not files:
        raise StoreError(f"the step wrote no file into {path}. A step writes what it makes into `out`.")
    for folder in folders:
        sync_directory(folder)
    return files


def _metric(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return {str(field): _metric(item, f"{name}.{field}") for field, item in value.items()}
    if isinstance(value, list | tuple):
        return [_metric(item, f"{name}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        log.warning("the metric %s is %s: the manifest says null", name, value)
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f"the metric {name} is {value!r}, a {type(value).__name__}: metrics are JSON values. Convert it, "
        "by float() or .tolist() say."
    )


def _peak_memory() -> int:
    """The most bytes that this process, or one of its children that ended, had in memory at once."""
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit
