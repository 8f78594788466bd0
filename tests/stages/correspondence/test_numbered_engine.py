"""Processes with numbers, as each GPU gets its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

from stages.correspondence.numbered_engine import NumberedEngine
from stages.shards import Shard


def begin(number: int) -> None:
    os.environ["ORL_TEST_NUMBER"] = str(number)


def work(shard: Shard) -> tuple[int, str, int]:
    time.sleep(0.2)  # so that one process alone does not take all
    return shard.first, os.environ["ORL_TEST_NUMBER"], os.getpid()


def test_each_process_has_its_number() -> None:
    shards = [Shard(first, first + 1, Path(str(first))) for first in range(8)]
    firsts, numbers, pids = zip(*NumberedEngine(2, begin).map(work, shards), strict=True)
    assert firsts == tuple(range(8))
    assert set(numbers) == {"0", "1"}
    assert len(set(pids)) == len(set(zip(numbers, pids, strict=True))) == 2
    assert os.getpid() not in pids
