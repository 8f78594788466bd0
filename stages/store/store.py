"""The store of versioned artifacts: finds them, builds them once, publishes them whole, names them.

artifacts/<step>/<version>/            a published artifact: never changes
artifacts/<step>/<version>.partial/    work in progress, or what a crash left to be resumed
artifacts/<step>/<version>.lock        who works on it, held by flock
artifacts/latest/<config>/<step>       symlink to the version that the last run of that config used
artifacts/pinned/<step>-<version>      symlink to a version that shall be kept
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.store.key import RESERVED, STEP_NAME, VERSION, Key
from stages.store.lock import Lock, is_held, locked
from stages.store.manifest import MANIFEST_FILE, SCRATCH, Artifact, Damaged, StoreError, read_artifact, sync_directory
from stages.store.partial import Partial

log = logging.getLogger(__name__)

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]+")
_ENTRY = re.compile(rf"({VERSION.pattern})(?:\.(partial|lock|old|damaged)(?:-\d+)?)?")


class DiskFull(StoreError):
    """No room is left. What was done so far is kept and resumed."""


@dataclass(frozen=True)
class Entry:
    """Something in a step's directory. `kind`: "" the artifact itself, or partial, lock, old (replaced), damaged."""

    step: str
    version: str
    kind: str
    path: Path


class Store:
    """The artifacts below `root`. Several processes may use it at once; readers need no lock and never wait."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    def find(self, key: Key) -> Artifact | None:
        """The artifact of `key`, or None where it is absent or damaged (`get` says which)."""
        return self._find(key.step, key.version)

    def is_whole(self, step: str, version: str) -> bool:
        """Whether the artifact is there and not damaged."""
        return self._find(step, version) is not None

    def get(self, step: str, version: str) -> Artifact:
        """The artifact with this version, after checking that all its files are there with their sizes.

        Raises:
            Damaged: it is there, but not whole.
            StoreError: it is not there.
        """
        path = self.path(step, version)
        if not path.is_dir():
            raise StoreError(f"there is no {step}/{version} in {self.root}. `orl ls` shows what is there.")
        return read_artifact(path, step, version)

    def artifacts(self, step: str | None = None) -> list[Artifact]:
        """All whole artifacts, of one step or of all, ordered by step and version."""
        candidates = [self._find(entry.step, entry.version) for entry in self.entries(step) if entry.kind == ""]
        return [artifact for artifact in candidates if artifact is not None]

    def entries(self, step: str | None = None) -> list[Entry]:
        """Everything in the directories of the steps that the store knows, whole or not, ordered by path."""
        entries = []
        for path in sorted(self.root.glob("*/*" if step is None else f"{_name(step)}/*")):
            match = _ENTRY.fullmatch(path.name)
            if match and STEP_NAME.fullmatch(path.parent.name) and path.parent.name not in RESERVED:
                entries.append(Entry(path.parent.name, match[1], match[2] or "", path))
        return entries

    def path(self, step: str, version: str, kind: str = "") -> Path:
        """Where the artifact is or would be; with a `kind` of `Entry`, the file or directory beside it."""
        if not STEP_NAME.fullmatch(step) or step in RESERVED or not VERSION.fullmatch(version):
            raise StoreError(
                f"{step!r}, {version!r}: a step's name is made of a-z, 0-9 and _, a version is 12 hexadecimal digits."
            )
        return self.root / step / (f"{version}.{kind}" if kind else version)

    @contextmanager
    def build(
        self, key: Key, *, seed: int | None = None, device: str | None = None, force: bool = False, wait: bool = True
    ) -> Iterator[Partial]:
        """Gives the place to make the artifact of `key` in, or the artifact where it is there already:

            with store.build(key) as partial:
                if partial.artifact is None:
                    ...  # write files into partial.path: it may hold what a former attempt left
                    partial.publish(metrics)

        Only one process at a time works on a version. When the body ends without publishing, or dies, the work stays
        for the next attempt.

        Args:
            key: what the artifact is made from.
            seed, device: for the manifest only. A seed that changes the result belongs in `key` too.
            force: make it anew although it is there. Starts from nothing. The old one is replaced at the end.
            wait: wait for another process that works on this version, and then use what it made.

        Raises:
            Busy: another process works on this version, and `wait` is false.
            DiskFull: there was no room for a file.
        """
        artifact = None if force else self.find(key)
        if artifact is not None:
            yield Partial(self, key, artifact=artifact)
            return
        with self.lock(key.step, key.version, wait=wait) as lock:
            try:
                if force:
                    remove(self.path(key.step, key.version, "partial"))
                else:  # a waiter finds what the other process made; a crash may have come just before the last rename
                    artifact = self.find(key) or self._finish_publishing(key)
                partial = Partial(self, key, artifact=artifact, seed=seed, device=device, lock=lock, fresh=force)
                try:
                    yield partial
                finally:
                    partial.close()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise DiskFull(
                    f"the disk is full: {shutil.disk_usage(self.root).free:,} bytes are free in {self.root}. Make room "
                    "(`orl gc` removes what nothing uses) and run again: the work so far is kept."
                ) from error

    def lock(self, step: str, version: str, *, wait: bool = True) -> AbstractContextManager[Lock]:
        """Holds the exclusive lock on one version, which `build` does by itself. Raises Busy unless `wait`."""
        path = self.path(step, version, "lock")
        return locked(path, keep=self.path(step, version, "partial"), wait=wait)

    def is_held(self, step: str, version: str) -> bool:
        """Whether a process works on this version at this moment."""
        return is_held(self.path(step, version, "lock"))

    def publish_directory(self, key: Key) -> Artifact:
        """Turns the partial directory of `key`, whose manifest is written, into the artifact. Needs the lock."""
        partial, final = self.path(key.step, key.version, "partial"), self.path(key.step, key.version)
        old = self.path(key.step, key.version, "old")
        remove(partial / SCRATCH)
        sync_directory(partial)
        if os.path.lexists(final):
            if self.find(key):
                remove(old)
                final.rename(old)
            else:
                self._move_aside(final)
        partial.rename(final)
        sync_directory(final.parent)
        sync_directory(self.root)
        remove(old)
        return self.get(key.step, key.version)

    def _find(self, step: str, version: str) -> Artifact | None:
        try:
            return self.get(step, version)
        except StoreError:
            return None

    def _finish_publishing(self, key: Key) -> Artifact | None:
        """The manifest is the last file to be written: with it, a partial directory lacks nothing but its name."""
        partial = self.path(key.step, key.version, "partial")
        try:
            read_artifact(partial, key.step, key.version)
        except Damaged:
            (partial / MANIFEST_FILE).unlink(missing_ok=True)
            return None
        return self.publish_directory(key)

    def _move_aside(self, final: Path) -> None:
        taken = {path.name for path in final.parent.iterdir()}
        number = next(number for number in range(1, len(taken) + 2) if f"{final.name}.damaged-{number}" not in taken)
        aside = final.with_name(f"{final.name}.damaged-{number}")
        final.rename(aside)
        log.warning("%s was damaged: moved to %s. Look at it, or let `orl gc` remove it.", final, aside.name)

    def link(self, config: str, name: str, artifact: Artifact) -> None:
        """Makes `latest/<config>/<name>` point to `artifact`, replacing a former link atomically."""
        self._link(self.root / "latest" / _name(config) / _name(name), artifact)

    def latest(self, config: str) -> dict[str, Artifact]:
        """Name -> the artifact that the last run of `config` used. Links to absent or damaged ones are left out."""
        candidates = {name: self._find(*identity) for name, identity in self.linked(config).items()}
        return {name: artifact for name, artifact in candidates.items() if artifact is not None}

    def configs(self) -> list[str]:
        """Names of the configs that have latest artifacts."""
        return sorted(path.name for path in (self.root / "latest").glob("*") if path.is_dir())

    def linked(self, config: str) -> dict[str, tuple[str, str]]:
        """Name -> (step, version) of each link of `config`, whether or not the artifact is still there."""
        return self._links(self.root / "latest" / _name(config))

    def pin(self, artifact: Artifact) -> None:
        """Keeps `artifact`, and all that it was made from, from being collected as garbage."""
        self._link(self.root / "pinned" / f"{artifact.step}-{artifact.version}", artifact)

    def unpin(self, step: str, version: str) -> None:
        """Undoes `pin`. Raises StoreError where there is no such pin."""
        pin = self.root / "pinned" / f"{self.path(step, version).parent.name}-{version}"
        if not pin.is_symlink():
            raise StoreError(f"{step}/{version} is not pinned. `orl ls` shows what is.")
        pin.unlink()

    def pinned(self) -> set[tuple[str, str]]:
        """(step, version) of each pin."""
        return set(self._links(self.root / "pinned").values())

    def _link(self, link: Path, artifact: Artifact) -> None:
        if artifact.path.absolute() != self.path(artifact.step, artifact.version):
            raise StoreError(f"{artifact.path} is not in {self.root}: only artifacts of this store can be named here.")
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary = link.with_name(f".{link.name}.{os.getpid()}.{threading.get_ident()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(artifact.path, link.parent))
        os.replace(temporary, link)

    def _links(self, folder: Path) -> dict[str, tuple[str, str]]:
        links = {}
        for link in sorted(folder.glob("[!.]*")):
            if link.is_symlink():
                target = Path(os.path.normpath(folder / os.readlink(link)))
                inside = target.parent.parent == self.root and target.parent.name not in RESERVED
                if inside and STEP_NAME.fullmatch(target.parent.name) and VERSION.fullmatch(target.name):
                    links[link.name] = (target.parent.name, target.name)
        return links


def open_artifact(step: str, config: str, root: Path = Path("artifacts")) -> Artifact:
    """The artifact of `step` that the last run of `config` used: `open_artifact("correspondence", "coco").path`.

    Raises:
        StoreError: that config has not run that step yet, or what it made is gone.
    """
    store = Store(root)
    latest = store.latest(config)
    if step not in latest:
        raise StoreError(
            f"{store.root} has no whole artifact of {step!r} for the config {config!r}. For it there are: "
            f"{', '.join(latest) or 'none'}. Configs that ran: {', '.join(store.configs()) or 'none'}."
        )
    return latest[step]


def remove(path: Path) -> None:
    """Removes a file, a symlink or a whole directory, if it is there."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot name a file in the store: names are made of A-Z, a-z, 0-9, '.', '_' and '-', and do not "
            "start with a dot. Choose another name."
        )
    return name
