"""Two processes that train together, for the tests of what must not depend on the number of processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch


class ProcessPair:
    """Two processes of one gloo process group, which start with the first work, in some seconds."""

    def __init__(self, store: Path) -> None:
        self._processes = [
            ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_join, initargs=(rank, store))
            for rank in range(2)
        ]

    def __call__(self, work: Callable[..., Any], *args: Any) -> list[Any]:
        """Runs a function of a test module in both. Returns [result of process 0, result of process 1]."""
        return [future.result(timeout=120) for future in [process.submit(work, *args) for process in self._processes]]

    def close(self) -> None:
        for process in self._processes:
            process.shutdown(cancel_futures=True)


def _join(rank: int, store: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
