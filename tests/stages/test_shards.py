"""Shards are made whole or not at all, once each, in any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stages.shards
from stages.report import Report
from stages.shards import LocalEngine, Shard, cut, make_shards


class Progress(Report):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[int] = []

    def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
        self.done.append(done)


def write(seen: Path, shard: Shard, path: Path) -> None:
    (seen / f"{shard.first}-{path.name.rpartition('.')[2]}").touch()
    path.write_text(f"{shard.first} {shard.last}")


def write_half(shard: Shard, path: Path) -> None:
    path.write_text("half of it")
    raise ValueError(f"photo {shard.first} is broken")


def made(seen: Path) -> list[int]:
    """The first photo of each shard as often as it was made."""
    return sorted(int(path.name.partition("-")[0]) for path in seen.iterdir())


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    folder = tmp_path / "seen"
    folder.mkdir()
    return folder


@given(count=st.integers(0, 2000), size=st.integers(1, 300))
def test_shards_cover_all_photos_once(tmp_path_factory: pytest.TempPathFactory, count: int, size: int) -> None:
    shards = cut(count, tmp_path_factory.getbasetemp() / "cut", ".txt", size)
    assert [photo for shard in shards for photo in range(shard.first, shard.last)] == list(range(count))
    assert all(shard.last - shard.first == size for shard in shards[:-1])
    assert [shard.path for shard in shards] == sorted({shard.path for shard in shards}), "in the order of their names"


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_there_is_not_made_again(tmp_path: Path, seen: Path, workers: int) -> None:
    shards = cut(10, tmp_path / "shards", ".txt", size=2)
    shards[1].path.write_text("of a former run")
    report = Progress()
    make_shards(partial(write, seen), shards, LocalEngine(workers), report)
    assert made(seen) == [0, 4, 6, 8]
    assert [shard.path.read_text() for shard in shards] == ["0 2", "of a former run", "4 6", "6 8", "8 10"]
    assert report.done == [2, 4, 6, 8, 10]
    make_shards(partial(write, seen), shards, LocalEngine(workers), report)
    assert made(seen) == [0, 4, 6, 8]


def test_a_shard_that_fails_leaves_nothing_behind(tmp_path: Path, seen: Path) -> None:
    shards = cut(4, tmp_path / "shards", ".txt", size=2)
    with pytest.raises(ValueError, match="photo 0 is broken"):
        make_shards(write_half, shards, LocalEngine(1), Report())
    assert list((tmp_path / "shards").iterdir()) == []


class Elsewhere:
    """An engine whose workers write to a folder of their own."""

    def map(self, work: Callable[[Shard], Any], shards: Sequence[Shard]) -> Generator[Any, None, None]:
        for shard in shards:
            elsewhere = shard.path.parent.with_name("elsewhere")
            elsewhere.mkdir(exist_ok=True)
            yield work(Shard(shard.first, shard.last, elsewhere / shard.path.name))


def test_shards_that_cannot_be_seen_here_are_an_error(
    tmp_path: Path, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.shards, "SECONDS_TO_APPEAR", 0.2)
    with pytest.raises(FileNotFoundError, match=r"not seen here: .* one shared file system, under the same path"):
        make_shards(partial(write, seen), cut(4, tmp_path / "shards", ".txt"), Elsewhere(), Report())
