"""Worker processes: they die with their parent, use one thread each and return results in order."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal as signals
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SECONDS_BETWEEN_POLLS = 0.5

# How long a step may take to write its checkpoint after SIGTERM before it is killed.
GRACE_SECONDS = 60.0


class Terminated(BaseException):
    """Raised in the main thread of a step on SIGTERM. Not an `Exception`: no handler of failures may swallow it."""


def available_cores() -> int:
    """Processor cores that this process may use, which in a container or a batch job are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launched() -> bool:
    """Whether `torch.distributed.run` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    """Number of this process among those that `torch.distributed.run` has started, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Number of this process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """Number of processes that were started together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def die_with_parent(signal: int = signals.SIGTERM, expected_parent: int | None = None) -> None:
    """From now on this process gets `signal` when its parent ends, however that happens (SIGKILL included).

    On Linux by PR_SET_PDEATHSIG, see prctl(2). Mind that the kernel means the *thread* that made this process: start
    children from a thread that lives as long as they are needed. Elsewhere a daemon thread polls the parent's number.

    Args:
        expected_parent: its process id, where the caller knows it; a child of `multiprocessing` finds out by itself.
            If that process ended before this call, `signal` is sent at once.
    """
    before = os.getppid() if expected_parent is None else expected_parent
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    else:
        threading.Thread(target=_poll_parent, args=(before, signal), daemon=True).start()
    known = multiprocessing.parent_process()
    if os.getppid() != before or (known is not None and not known.is_alive()):
        os.kill(os.getpid(), signal)


def never_outlive_parent(seconds: float) -> None:
    """The last resort beside `die_with_parent`: `seconds` after its parent's end this process is killed, if it is still
    there, whatever it waits for. A SIGTERM can get lost (Python drops what a handler raises within a destructor)."""
    threading.Thread(target=_poll_parent, args=(os.getppid(), signals.SIGKILL, seconds), daemon=True).start()


def _poll_parent(parent: int, signal: int, grace: float = 0.0) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_POLLS)
    time.sleep(grace)
    os.kill(os.getpid(), signal)


def init_worker(worker_id: int = 0) -> None:
    """Start of a worker process (also a DataLoader's `worker_init_fn`): dies with its parent, one thread, no Ctrl-C.

    Ctrl-C reaches the whole process group; the parent alone decides what it means.
    """
    die_with_parent(signals.SIGKILL)
    signals.signal(signals.SIGINT, signals.SIG_IGN)
    use_one_thread()


def use_one_thread() -> None:
    """Libraries that are already loaded are told to use one thread, the others find it in the environment.

    So a process that is one of many loads nothing that it does not need.
    """
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def pool(workers: int, initializer: Callable[[], None] | None = None) -> Executor:
    """`workers` fresh processes, each prepared by `init_worker` and then `initializer`. Use it in a `with` statement.

    With 0 or 1 workers the work is done in this process, which saves a small job the start of another. Start it from
    a thread that outlives the work: see `die_with_parent`.
    """
    if workers <= 1:
        if initializer is not None:
            initializer()
        return _InProcess()
    context = multiprocessing.get_context("spawn")  # fork would copy threads and locks of CUDA, OpenMP and PyArrow
    return ProcessPoolExecutor(workers, context, _start_worker, (initializer,))


def _start_worker(initializer: Callable[[], None] | None) -> None:
    init_worker()
    if initializer is not None:
        initializer()


class _InProcess(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def ordered_map(
    pool: Executor, fn: Callable[[Item], Result], items: Iterable[Item], window: int
) -> Generator[Result, None, None]:
    """Yields `fn(item)` in the order of `items`, with at most `window` items submitted and not yet yielded.

    So memory does not grow with the number of items, and a slow reader holds the workers back. `fn` and the items must
    be picklable. Closing the generator cancels what has not begun.

    Raises:
        ValueError: `window` is under 1.
        RuntimeError: a worker died (killed by the system, out of memory, or a crash in native code).
    """
    if window < 1:
        raise ValueError(f"window={window} would never submit anything: it must be at least 1.")
    pending: deque[Future[Result]] = deque()
    ahead = 1 if isinstance(pool, _InProcess) else window
    try:
        for item in items:
            pending.append(pool.submit(fn, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process died before its work was done, most often because memory ran out. "
            "Lower run.workers and run again."
        ) from error
    finally:
        for future in pending:
            future.cancel()
