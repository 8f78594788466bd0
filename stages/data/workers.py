"""Worker processes of PyTorch's DataLoader: how they start, and what ends them.

SIGTERM, which a cancelled run may send to its whole process group, is for the training process alone to answer: it
finishes its step, for which it needs data, and saves. So the workers and the server that they are forked from let it
pass. They end when training is done with them, or dies.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess
from multiprocessing.popen_forkserver import Popen
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from stages.process import init_worker


def make_loader(dataset: Dataset, workers: int, **settings: Any) -> DataLoader:
    """A DataLoader with `workers` processes; with 0 it works in this process."""
    return DataLoader(
        dataset,
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
        multiprocessing_context=_worker_context() if workers else None,
        # Its own generator: the loader must not advance PyTorch's global one, or a resumed run would differ.
        generator=torch.Generator(),
        **settings,
    )


class _Popen(Popen):
    """When a process exits, `multiprocessing` terminates its children by SIGTERM and waits for them: forever, here."""

    terminate = Popen.kill


class _Worker(ForkServerProcess):
    _Popen = staticmethod(_Popen)


class _WorkerContext(ForkServerContext):
    Process = _Worker


def _worker_context() -> BaseContext:
    """Workers are forked from a clean server process that has imported what they need once.

    Forking the training process itself would copy the locks of its threads (OpenMP, CUDA) in whatever state they are
    in; spawning costs each worker an import of PyTorch, in seconds and in memory.
    """
    context = _WorkerContext()
    context.set_forkserver_preload(["stages.data.fork_server"])
    return context


def _start_worker(worker_id: int) -> None:
    """`init_worker`, and one thing more: to the kernel this worker's parent is the fork server, not our process.

    The server lives as long as any worker does, so neither would notice that our process was killed.
    """
    init_worker(worker_id)
    gc.freeze()  # what is there stays: walking through all of PyTorch again and again would cost a few percent
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
