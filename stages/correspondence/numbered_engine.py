"""Shards on processes of this machine that each have a number, such as that of their GPU."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import TypeVar

from stages.process import ordered_map, pool
from stages.shards import Shard

Result = TypeVar("Result")


@dataclass(frozen=True)
class NumberedEngine:
    """`processes` processes, each of which begins with `begin(number)`, the numbers being 0 .. processes - 1.

    1 works in this process. `begin` must pickle.
    """

    processes: int
    begin: Callable[[int], None]

    def map(self, work: Callable[[Shard], Result], shards: Sequence[Shard]) -> Generator[Result, None, None]:
        numbers = multiprocessing.get_context("spawn").SimpleQueue()
        for number in range(self.processes):
            numbers.put(number)
        with pool(self.processes, partial(_begin, self.begin, numbers)) as processes:
            yield from ordered_map(processes, work, shards, window=4 * self.processes)


def _begin(begin: Callable[[int], None], numbers: SimpleQueue[int]) -> None:
    begin(numbers.get())
