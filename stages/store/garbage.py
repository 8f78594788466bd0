"""What nothing in the store needs any more, and how it goes."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from stages.store.lock import Busy, read_record
from stages.store.manifest import MANIFEST_FILE, disk_bytes, last_change
from stages.store.store import Entry, Store, remove

Version = tuple[str, str]  # step, version


@dataclass(frozen=True)
class Garbage:
    """What can go. `why` gives the reason for each path; `bytes` is what goes with all of them."""

    why: dict[Path, str]
    bytes: int
    found_at: float

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.why)


def garbage(store: Store, keep_partials: timedelta = timedelta(days=7)) -> Garbage:
    """What nothing needs any more. Changes nothing; `collect` removes it.

    Kept are the artifacts that the latest links and the pins reach, what those were made from, what work in progress
    is made from, and everything that a process works on at this moment. A damaged artifact is treated like a whole one.

    Args:
        keep_partials: unfinished work that was touched within this time is kept, because it can be resumed.
    """
    found_at = time.time()
    kept = set()
    for entry in store.entries():
        recent = entry.kind == "partial" and found_at - last_change(entry.path) < keep_partials.total_seconds()
        if recent and not store.is_whole(entry.step, entry.version):
            kept.add(entry.path)
    reached = _reached(store, kept)
    why = {}
    for entry in store.entries():
        reason = _reason(store, entry, reached, kept)
        if reason and not store.is_held(entry.step, entry.version):
            why[entry.path] = reason
    return Garbage(why, sum(map(disk_bytes, why)), found_at)


def collect(store: Store, garbage: Garbage) -> Garbage:
    """Removes `garbage` and says what is gone. Skips what came to be used since it was found."""
    gone, freed = {}, 0
    for entry in store.entries():
        if entry.path not in garbage.why:
            continue
        with suppress(Busy), store.lock(entry.step, entry.version, wait=False):
            if _came_to_use(store, entry, garbage):
                continue
            freed += disk_bytes(entry.path)
            gone[entry.path] = garbage.why[entry.path]
            if entry.kind == "":  # renamed first, so that nobody reads an artifact of which half is gone
                old = store.path(entry.step, entry.version, "old")
                remove(old)
                remove(entry.path.rename(old))
            elif entry.kind != "lock":  # that one goes when it is released
                remove(entry.path)
    return Garbage(gone, freed, garbage.found_at)


def _came_to_use(store: Store, entry: Entry, garbage: Garbage) -> bool:
    if not entry.path.exists():
        return True
    if entry.kind == "partial":
        return last_change(entry.path) > garbage.found_at
    return entry.kind == "" and (entry.step, entry.version) in _reached(store, set())


def _reason(store: Store, entry: Entry, reached: set[Version], kept: set[Path]) -> str | None:
    if entry.kind == "" and (entry.step, entry.version) not in reached:
        return "neither a latest link nor a pin reaches it"
    if entry.kind == "partial" and entry.path not in kept:
        made = store.is_whole(entry.step, entry.version)
        return "unfinished, and made meanwhile" if made else "unfinished, and nobody went on with it"
    if entry.kind == "lock" and not store.path(entry.step, entry.version, "partial").exists():
        return "a lock that nobody holds"
    return {"old": "replaced by a newer one", "damaged": "damaged, and moved aside"}.get(entry.kind)


def _reached(store: Store, kept: set[Path]) -> set[Version]:
    """All versions that are needed: the roots, and what they were made from, and so on."""
    entries = store.entries()
    steps: dict[str, set[Version]] = {}
    for entry in entries:
        steps.setdefault(entry.version, set()).add((entry.step, entry.version))
    todo = list(store.pinned())
    for config in store.configs():
        todo += store.linked(config).values()
    for entry in entries:
        in_work = entry.kind == "lock" and store.is_held(entry.step, entry.version)
        if in_work or entry.path in kept:
            key = read_record(store.path(entry.step, entry.version, "lock")).get("key", {})
            for version in key.get("inputs", {}).values():
                todo += steps.get(version, ())
    reached: set[Version] = set()
    while todo:
        identity = todo.pop()
        if identity not in reached:
            reached.add(identity)
            for version in _inputs(store.path(*identity)):
                todo += steps.get(version, ())
    return reached


def _inputs(path: Path) -> list[str]:
    """The inputs of an artifact, also of a damaged one, whose manifest may be fine."""
    with suppress(OSError, ValueError, AttributeError, KeyError):
        return list(json.loads((path / MANIFEST_FILE).read_bytes())["inputs"].values())
    return []
