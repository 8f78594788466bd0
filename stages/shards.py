"""Work over many photos in shards: each is one file, made whole or not at all, and skipped when it is there.

So whatever dies on the way, a process, a machine, the run, costs the shards that were in the making and no more.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from stages.process import ordered_map, pool
from stages.report import Report

Result = TypeVar("Result")

SHARD = 256  # photos
SECONDS_TO_APPEAR = 90.0


@dataclass(frozen=True)
class Shard:
    """Photos `first` .. `last` - 1, and the file that is made of them."""

    first: int
    last: int
    path: Path


Make = Callable[[Shard, Path], None]


class Engine(Protocol):
    """Where shards are worked on."""

    def map(self, work: Callable[[Shard], Result], shards: Sequence[Shard]) -> Generator[Result, None, None]:
        """Yields `work(shard)` in the order of `shards`. `work` must pickle, and may be called twice for a shard."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """`workers` processes on this machine; 1 works in this process."""

    workers: int

    def map(self, work: Callable[[Shard], Result], shards: Sequence[Shard]) -> Generator[Result, None, None]:
        with pool(min(self.workers, len(shards))) as processes:
            yield from ordered_map(processes, work, shards, window=4 * max(1, self.workers))


def cut(count: int, folder: Path, suffix: str, size: int = SHARD) -> list[Shard]:
    """Photos 0 .. count - 1 in shards of `size`, the last one smaller; their files lie in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    ranges = ((first, min(first + size, count)) for first in range(0, count, size))
    return [Shard(first, last, folder / f"{first:010d}-{last:010d}{suffix}") for first, last in ranges]


def make_shards(make: Make, shards: Sequence[Shard], engine: Engine, report: Report, unit: str = "photos") -> None:
    """Makes the files that are not there yet. At the end all of them can be read here, wherever they were made.

    Args:
        make: `make(shard, path)` writes the whole shard to `path`, which then gets its real name. It must pickle: a
            `functools.partial` of a function at the top of a module. What it writes depends on the shard alone.

    Raises:
        FileNotFoundError: a worker has made a file that this process does not see.
    """
    missing = [shard for shard in shards if not shard.path.exists()]
    total = sum(shard.last - shard.first for shard in shards)
    done = total - sum(shard.last - shard.first for shard in missing)
    report.progress(done, total, unit)
    with closing(engine.map(partial(_make_one, make), missing)) as counts:
        for count in counts:
            done += count
            report.progress(done, total, unit)
    for shard in missing:
        _wait_until_seen(shard.path)


def _make_one(make: Make, shard: Shard) -> int:
    if not shard.path.exists():
        # Of its own name: a cluster may give a shard to a second worker while the first one, thought lost, goes on.
        partial_path = shard.path.with_name(f".{shard.path.name}.{uuid.uuid4().hex}")
        try:
            make(shard, partial_path)
            with partial_path.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial_path, shard.path)
        finally:
            partial_path.unlink(missing_ok=True)
    return shard.last - shard.first


def _wait_until_seen(path: Path) -> None:
    """A network file system may go on saying for a minute that a file is not there which another machine has made."""
    deadline = time.monotonic() + SECONDS_TO_APPEAR
    while not path.exists():
        if time.monotonic() > deadline:
            raise FileNotFoundError(
                f"{path} was made by a worker, but is not seen here: all machines need the folder of artifacts on one "
                "shared file system, under the same path."
            )
        os.listdir(path.parent)  # NFS asks the server again when a folder is opened
        time.sleep(0.5)
