"""An artifact on disk: the files of a directory and the manifest that lists them and says where they come from."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from stages.store.key import Key

SCHEMA = 1
MANIFEST_FILE = "manifest.json"
# What a step needs only while it works (checkpoints, shards). Deleted when the artifact is published.
SCRATCH = "scratch"

_LIBRARIES = (
    "torch", "torchvision", "timm", "numpy", "pandas", "pyarrow", "pillow", "opencv-contrib-python-headless",
    "faiss-gpu", "faiss-cpu", "scikit-image", "scikit-learn", "safetensors",
)  # fmt: skip


class StoreError(Exception):
    """Something about the artifact store that the user can act on."""


@dataclass(frozen=True)
class Problem:
    """One thing about an artifact on disk that is not as its manifest says."""

    path: Path
    file: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path / self.file}: expected {self.expected}, found {self.found}"


class Damaged(StoreError):
    """The directory is not a whole artifact; `problems` says why."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__(f"{path} is not a whole artifact: {'; '.join(map(str, problems[:5]))}")
        self.problems = problems


@dataclass(frozen=True)
class Artifact:
    """A whole, published result of a step: a directory and its manifest. Two are equal when their paths are."""

    path: Path
    manifest: dict[str, Any] = field(repr=False, compare=False)

    @property
    def step(self) -> str:
        return self.manifest["step"]

    @property
    def version(self) -> str:
        return self.manifest["version"]

    @property
    def key(self) -> Key:
        return Key(**self.manifest["key"])

    @property
    def inputs(self) -> dict[str, str]:
        """Input name -> version of the artifact that went in."""
        return self.manifest["inputs"]

    @property
    def metrics(self) -> dict[str, Any]:
        return self.manifest["metrics"]

    @property
    def bytes(self) -> int:
        return sum(file["bytes"] for file in self.manifest["files"])

    def file(self, name: str) -> Path:
        """The path of a file of this artifact, or of a folder that holds some. `name` is relative, with slashes.

        Raises:
            StoreError: the manifest lists no such file.
        """
        names = [file["name"] for file in self.manifest["files"]]
        wanted = str(PurePosixPath(name))
        if wanted not in names and not any(known.startswith(wanted + "/") for known in names):
            raise StoreError(f"{self.path} holds no {name!r}. It holds: {', '.join(names[:20])}.")
        return self.path / wanted


def read_artifact(path: Path, step: str, version: str) -> Artifact:
    """The artifact in the directory `path`, after checking that every file is there with its size (not its content).

    Raises:
        Damaged: the manifest or a file is missing or not as it should be.
    """

    def bad_manifest(expected: str, found: str) -> Damaged:
        return Damaged(path, [Problem(path, MANIFEST_FILE, expected, found)])

    try:
        manifest = json.loads((path / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise bad_manifest("a manifest", error.strerror or str(error)) from None
    except ValueError as error:
        raise bad_manifest("JSON", str(error)) from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise bad_manifest(f"schema {SCHEMA}", f"schema {schema!r}")
    try:
        key = Key(**manifest["key"])
        stated = {
            (key.step, key.version, key.inputs == manifest["inputs"]),
            (manifest["step"], manifest["version"], True),
        }
        files = {str(file["name"]): int(file["bytes"]) for file in manifest["files"]}
        if not isinstance(manifest["metrics"], dict):
            raise TypeError("metrics are not a mapping")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise bad_manifest("the fields of a manifest", f"{type(error).__name__}: {error}") from None
    if stated != {(step, version, True)}:
        raise bad_manifest(f"the manifest of {step}/{version}", f"that of {sorted(stated)}")
    problems = [problem for name, size in files.items() if (problem := _size_problem(path, name, size))]
    if problems:
        raise Damaged(path, problems)
    return Artifact(path, manifest)


def _size_problem(path: Path, name: str, size: int) -> Problem | None:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return Problem(path, MANIFEST_FILE, "names inside the artifact", name)
    if not (path / name).is_file():
        return Problem(path, name, f"{size} bytes", "no such file")
    found = (path / name).stat().st_size
    return None if found == size else Problem(path, name, f"{size} bytes", f"{found} bytes")


def file_names(path: Path) -> list[str]:
    """Names of all files and symlinks below `path` except its manifest and its scratch folder: relative, sorted."""
    names = []
    for folder, folders, files in os.walk(path):
        if Path(folder) == path:
            folders[:] = [name for name in folders if name != SCRATCH]
            files = [name for name in files if name not in (MANIFEST_FILE, SCRATCH)]
        # os.walk does not enter a symlink to a folder and counts it as a folder: it would be lost here.
        files += [name for name in folders if os.path.islink(os.path.join(folder, name))]
        names += [(Path(folder) / name).relative_to(path).as_posix() for name in files]
    return sorted(names)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of everything at and below `path`, while somebody may be working there: what vanishes meanwhile is left out."""
    with suppress(FileNotFoundError):
        yield path.lstat()
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            with suppress(FileNotFoundError):
                yield os.lstat(os.path.join(folder, name))


def disk_bytes(path: Path) -> int:
    """Bytes in the file `path`, or in the files below it."""
    return sum(found.st_size for found in _stats(path) if stat.S_ISREG(found.st_mode))


def last_change(path: Path) -> float:
    """When something at or below `path` was last written, in seconds since the epoch; 0 when nothing is there."""
    return max((found.st_mtime for found in _stats(path)), default=0.0)


def sha256(path: Path, *, sync: bool = False) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file's content; `sync` also makes the disk keep it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
        return file.tell(), digest


def sync_directory(path: Path) -> None:
    """Makes the disk keep the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that results may depend on."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_revision(directory: Path = Path(__file__).parent) -> dict[str, Any] | None:
    """{"commit", "dirty"} of the repository that tracks the code in `directory`; None where there is none or no git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(directory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        # An installation inside somebody else's repository is not tracked there: that commit would mean nothing.
        if not git("ls-files", "--", "."):
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
