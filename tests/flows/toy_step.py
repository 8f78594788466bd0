"""A step in shards that says what it does: each made shard adds a line to the folder `seen` beside the artifacts."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from stages.report import Report
from stages.shards import Engine, Shard, cut, make_shards


def run(
    *, out: Path, report: Report, photos: int, seconds: float, fails: str | None, seen: Path, workers: int,
    engine: Engine,
) -> None:  # fmt: skip
    """Writes `numbers.txt`, the squares of 0 .. photos - 1. A shard of two photos takes `seconds`; see `_make`."""
    shards = cut(photos, out / "scratch" / "squares", ".txt", size=2)
    make_shards(partial(_make, seconds, fails, seen), shards, engine, report)
    (out / "numbers.txt").write_text("".join(shard.path.read_text() for shard in shards))


def _make(seconds: float, fails: str | None, seen: Path, shard: Shard, path: Path) -> None:
    """Shard 4 fails as `fails` says: "once", "always", or "fatally" for the process that works on it."""
    _say(seen, f"{shard.first} begun by {os.getpid()}")
    time.sleep(seconds)
    if shard.first == 4 and fails == "always":
        raise ValueError("photo 4 is of another planet")
    if shard.first == 4 and fails == "once" and said(seen, 4) == 1:
        raise OSError(5, "Input/output error", str(path))
    if shard.first == 4 and fails == "fatally":
        os._exit(1)
    path.write_text("".join(f"{number**2}\n" for number in range(shard.first, shard.last)))


def _say(seen: Path, words: str) -> None:
    with seen.open("a") as file:
        file.write(words + "\n")


def beginnings(seen: Path) -> list[tuple[int, int]]:
    """(first photo, process) of each shard that was begun."""
    lines = seen.read_text().splitlines() if seen.exists() else []
    return [(int(line.split()[0]), int(line.split()[-1])) for line in lines]


def said(seen: Path, first: int) -> int:
    return sum(shard == first for shard, _ in beginnings(seen))


def request(root: Path, engine: str, address: str | None = None, **arguments: Any) -> dict[str, Any]:
    """What the flow would ask of a child."""
    toy: dict[str, Any] = {"photos": 24, "seconds": 0.3, "fails": None, "seen": {"path": str(root / "seen")},
                           "workers": 2}  # fmt: skip
    toy |= {"engine": engine} | arguments
    return {
        "target": __name__, "arguments": toy, "seed": None, "force": False,
        "processes": None, "address": address, "store": str(root / "artifacts"),
        "key": {"step": "toy", "step_version": 1, "config": {"photos": toy["photos"]}, "inputs": {}},
    }  # fmt: skip
