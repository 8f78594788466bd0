"""Shards on a cluster: a step's shards as tasks of Prefect, which Dask or Ray hands to processes of any machine."""

from __future__ import annotations

import importlib.util
import re
import socket
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.states import State
from prefect.task_runners import TaskRunner

from flows.shard_task import code_version, work_through
from stages.shards import Shard

Result = TypeVar("Result")

# Prefect spends some milliseconds and some kilobytes of its database on a task.
MAX_TASKS = 256
_SECONDS_TO_CONNECT = 10.0
_SIGN = ".run-"


class EngineError(ValueError):
    """The engine that was asked for cannot be used as things are."""


def check_engine(engine: str) -> None:
    """Raises EngineError when a package is missing that `engine` needs."""
    if engine != "local" and importlib.util.find_spec(f"prefect_{engine}") is None:
        raise EngineError(
            f"run.engine={engine} needs the package prefect-{engine}, which is not installed here. "
            f"`pip install 'orl-pipeline[{engine}]'` installs it; run.engine=local does without."
        )


def task_runner(engine: str, address: str | None, workers: int) -> TaskRunner[Any]:
    """What hands tasks to the cluster at `address`, or to one of `workers` processes that it starts on this machine.

    Raises:
        EngineError: a package is missing, or nothing answers at `address`.
    """
    check_engine(engine)
    if address is not None:
        _check_address(engine, address)
    if engine == "dask":
        from prefect_dask import DaskTaskRunner

        if address is not None:
            return DaskTaskRunner(address=address)
        # With certificates of its own: nobody else on this machine can hand it work. Memory is the system's business.
        return DaskTaskRunner(cluster_kwargs={"n_workers": workers, "threads_per_worker": 1, "memory_limit": 0,
                                              "dashboard_address": None, "security": True})  # fmt: skip
    from prefect_ray import RayTaskRunner

    if address is not None:
        return RayTaskRunner(address=address)
    # Results are a few bytes a shard: the store for large ones gets the least that Ray takes.
    return RayTaskRunner(init_kwargs={"num_cpus": workers, "include_dashboard": False,
                                      "object_store_memory": 80 * 2**20})  # fmt: skip


def _check_address(engine: str, address: str) -> None:
    """Raises EngineError when nobody listens at `address`. Those without a host and port are the cluster's business."""
    found = re.fullmatch(r"(?:\w+://)?\[?([^\[\]/]+?)\]?:(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_SECONDS_TO_CONNECT).close()
    except OSError as error:
        start = {"dask": "dask scheduler", "ray": "ray start --head --port 6379"}[engine]
        raise EngineError(
            f"run.address={address}: nothing answers there ({error}). Start `{start}` on that machine "
            "(docs/clusters.md), or leave run.address out for a cluster of this machine's processes."
        ) from None


@dataclass(frozen=True)
class PrefectEngine:
    """Works on shards by tasks of the flow that is running, each a run of consecutive shards.

    The loss of a worker costs the shard that it was at: Dask and Ray give its task to another one, which finds the
    shards before that made. A task that meets an error of the file system is tried again by Prefect.

    Attributes:
        one_machine: whether the workers are of this machine, with this code.
    """

    one_machine: bool

    def map(self, work: Callable[[Shard], Result], shards: Sequence[Shard]) -> Generator[Result, None, None]:
        code = None if self.one_machine else code_version()
        if not shards:
            return
        with _sign(shards[0].path.parent) as sign:
            groups = _groups(shards, MAX_TASKS)
            futures = [_submit(partial(work_through, work, group, sign, code), group) for group in groups]
            for group, future in zip(groups, futures, strict=True):
                try:
                    results = future.result()
                except Exception as error:
                    raise _explained(error, group) from error
                yield from results


def _groups(shards: Sequence[Shard], most: int) -> list[Sequence[Shard]]:
    """`shards` in at most `most` runs whose lengths differ by one at most."""
    count = min(most, len(shards))
    return [shards[n * len(shards) // count : (n + 1) * len(shards) // count] for n in range(count)]


def _submit(job: Callable[[], list[Result]], group: Sequence[Shard]) -> Any:
    """The future of `job()`, which looks like one value to Prefect: it would search lists for futures and hash them."""
    wanted = Task(
        _do, name="shards", task_run_name=f"photos {group[0].first} to {group[-1].last - 1}",
        cache_policy=NO_CACHE, persist_result=False,
        retries=2, retry_delay_seconds=[3, 30], retry_condition_fn=_may_pass,
    )  # fmt: skip
    return wanted.submit(job)


def _do(job: Callable[[], list[Result]]) -> list[Result]:
    return job()


def _may_pass(task: Any, run: Any, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), OSError)


@contextmanager
def _sign(folder: Path) -> Iterator[Path]:
    """A file that is there for the time of the `with` block. Those of runs that were killed go: their tasks end."""
    sign = folder / f"{_SIGN}{uuid.uuid4().hex}"
    for former in folder.glob(f"{_SIGN}*"):
        former.unlink(missing_ok=True)
    sign.touch()
    try:
        yield sign
    finally:
        sign.unlink(missing_ok=True)


def refused(error: ConnectionError) -> EngineError:
    """What Ray says about a head that listens and lets nobody in, with a remedy."""
    return EngineError(
        f"{error}. A cluster that asks for a token needs RAY_AUTH_MODE=token, and on each machine the same file "
        "~/.ray/auth_token, see docs/clusters.md."
    )


def _explained(error: Exception, group: Sequence[Shard]) -> Exception:
    """`error` with a remedy, where it is about the cluster rather than the work."""
    photos = f"photos {group[0].first} to {group[-1].last - 1}"
    if "Failed to reach API" in str(error):
        return EngineError(
            f"a worker cannot reach the Prefect server ({error}): start `prefect server start --host 0.0.0.0` on a "
            "machine that all of them see, and set PREFECT_API_URL=http://THAT_MACHINE:4200/api for the run."
        )
    if "Error during deserialization" in str(error):
        return EngineError(
            f"the workers cannot load what they are to do ({error.__cause__ or error}): install orl-pipeline and its "
            "libraries, in the same versions as here, where the workers run, and start them again."
        )
    if type(error).__module__.partition(".")[0] in ("distributed", "ray"):
        return RuntimeError(
            f"the cluster has lost {photos} ({type(error).__name__}: {error}). A worker that ends again and again has "
            "most often too little memory: start fewer on each machine. Whole shards are kept for the next run."
        )
    return error
