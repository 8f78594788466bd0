"""Looking at the store: what is there, why something is not cached, whether it is sound."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.store.garbage import Garbage, collect, garbage
from stages.store.key import Key
from stages.store.lock import holder, read_record
from stages.store.manifest import Artifact, Damaged, Problem, StoreError, disk_bytes, file_names
from stages.store.store import Store

__all__ = [
    "ABSENT", "Difference", "Explanation", "Garbage", "Row",
    "collect", "explain", "garbage", "key_differences", "listing", "verify",
]  # fmt: skip

ABSENT = "(absent)"
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Row:
    """One line of `listing`. `created` is ISO 8601, UTC; `seconds` is the time that making it took, as far as known."""

    step: str
    version: str
    state: Literal["ok", "damaged", "partial"]
    path: Path
    bytes: int
    created: str | None
    seconds: float | None
    configs: tuple[str, ...]
    pinned: bool
    holder: str | None
    problem: str | None


def listing(store: Store, step: str | None = None) -> list[Row]:
    """What the store holds, ordered by step and version. `holder` says who works on a version at this moment."""
    users: dict[tuple[str, str], set[str]] = {}
    for config in store.configs():
        for version in store.linked(config).values():
            users.setdefault(version, set()).add(config)
    pinned = store.pinned()
    rows = []
    for entry in store.entries(step):
        if entry.kind in ("lock", "old"):
            continue
        record = read_record(store.path(entry.step, entry.version, "lock"))
        held = holder(record) if store.is_held(entry.step, entry.version) else None
        state: Literal["ok", "damaged", "partial"] = "damaged"
        created, seconds, problem = None, None, None
        if entry.kind == "partial":
            state = "partial"
            attempts = record.get("attempts") or [{"start": None, "seconds": None}]
            created, seconds = attempts[0]["start"], sum(attempt["seconds"] or 0 for attempt in attempts)
        elif entry.kind == "damaged":
            problem = "moved aside when it was made anew"
        else:
            try:
                manifest = store.get(entry.step, entry.version).manifest
                state, created, seconds = "ok", manifest["end"], manifest["seconds"]
            except StoreError as error:
                problem = str(error)
        identity = (entry.step, entry.version)
        configs = tuple(sorted(users.get(identity, ()))) if entry.kind == "" else ()
        pin = identity in pinned and entry.kind == ""
        size = disk_bytes(entry.path)
        rows.append(Row(*identity, state, entry.path, size, created, seconds, configs, pin, held, problem))
    return rows


@dataclass(frozen=True)
class Difference:
    """One thing in which two keys differ. `field`: `retrieval.neighbors`, `retrieval.VERSION`, or an input's name."""

    kind: Literal["config", "input", "code"]
    field: str
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        return f"{'input ' if self.kind == 'input' else ''}{self.field}: {self.theirs} there, {self.ours} now"


@dataclass(frozen=True)
class Explanation:
    """Why `key` is cached or not.

    Attributes:
        artifact: the artifact of the key, where it is there and whole.
        problems: where it is there but damaged: what is wrong with it.
        resumable: a former attempt left work that the next one goes on with.
        holder: who works on it at this moment.
        nearest: the whole artifact of the same step whose key differs least.
        differences: from `nearest` to `key`.
    """

    key: Key
    artifact: Artifact | None
    problems: tuple[Problem, ...]
    resumable: bool
    holder: str | None
    nearest: Artifact | None
    differences: tuple[Difference, ...]

    @property
    def summary(self) -> str:
        name = f"{self.key.step}/{self.key.version}"
        if self.artifact is not None:
            return f"{name} is cached"
        if self.problems:
            return f"{name} is damaged: {'; '.join(map(str, self.problems))}"
        if self.nearest is None:
            return f"{name} is not cached: no version of this step yet"
        return f"{name} is not cached; nearest is {self.nearest.version}: {'; '.join(map(str, self.differences))}"


def explain(store: Store, key: Key) -> Explanation:
    """Whether `key` is cached; if not, what is damaged, or in what it differs from the nearest version there is."""
    artifact: Artifact | None = None
    problems: tuple[Problem, ...] = ()
    try:
        artifact = store.get(key.step, key.version)
    except Damaged as error:
        problems = tuple(error.problems)
    except StoreError:
        pass
    nearest: Artifact | None = None
    differences: tuple[Difference, ...] = ()
    if artifact is None:
        others = sorted(store.artifacts(key.step), key=lambda other: other.manifest["end"], reverse=True)
        compared = [(other, key_differences(other.key, key)) for other in others]
        if compared:  # min takes the first of equals, which is the newest
            nearest, differences = min(compared, key=lambda pair: len(pair[1]))
    held = store.is_held(key.step, key.version)
    record = read_record(store.path(key.step, key.version, "lock"))
    resumable = store.path(key.step, key.version, "partial").is_dir()
    return Explanation(key, artifact, problems, resumable, holder(record) if held else None, nearest, differences)


def key_differences(theirs: Key, ours: Key) -> tuple[Difference, ...]:
    """In what two keys of the same step differ: the code's version, then inputs, then config fields, each sorted."""
    found = []
    if theirs.step_version != ours.step_version:
        found.append(Difference("code", f"{ours.step}.VERSION", theirs.step_version, ours.step_version))
    for name in sorted({*theirs.inputs, *ours.inputs}):
        there, here = theirs.inputs.get(name, ABSENT), ours.inputs.get(name, ABSENT)
        if there != here:
            found.append(Difference("input", name, there, here))
    old, new = dict(_leaves(theirs.config, ours.step)), dict(_leaves(ours.config, ours.step))
    for name in sorted({*old, *new}):
        there, here = old.get(name, ABSENT), new.get(name, ABSENT)
        if json.dumps(there) != json.dumps(here):  # as JSON, because True == 1 in Python
            found.append(Difference("config", name, there, here))
    return tuple(found)


def _leaves(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for name, item in value.items():
        yield from _leaves(item, f"{path}.{name}")


def verify(
    store: Store,
    step: str | None = None,
    version: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Reads every file of the artifacts, all of them or of one step or version, and compares it with its manifest.

    Args:
        progress: called with bytes done and bytes in all, after every 4 MiB and every file.

    Returns:
        What is wrong: files that are missing, have another size or content, or are not in the manifest.

    Raises:
        StoreError: nothing has that step and version.
    """
    problems: list[Problem] = []
    whole: list[Artifact] = []
    entries = [entry for entry in store.entries(step) if entry.kind == "" and version in (None, entry.version)]
    if not entries and (step or version):
        raise StoreError(f"{store.root} has no {step or '*'}/{version or '*'}. `orl ls` shows what is there.")
    for entry in entries:
        try:
            whole.append(store.get(entry.step, entry.version))
        except Damaged as error:
            problems += error.problems
    done, total = 0, sum(artifact.bytes for artifact in whole)
    for artifact in whole:
        files = {file["name"]: file["sha256"] for file in artifact.manifest["files"]}
        for name, expected in files.items():
            digest = hashlib.sha256()
            with (artifact.path / name).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, total)
            if digest.hexdigest() != expected:
                problems.append(Problem(artifact.path, name, f"SHA-256 {expected}", digest.hexdigest()))
        extra = [name for name in file_names(artifact.path) if name not in files]
        problems += [
            Problem(artifact.path, name, "no such file", "one that the manifest does not list") for name in extra
        ]
    return problems
