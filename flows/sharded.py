"""Runs one step whose shards a cluster works on: `python -m flows.sharded REQUEST.json`.

Like `stages.execute`, whose exit statuses it has, this process holds the lock on the artifact and does what is not cut
into shards; a flow of its own, `shards-of-<step>`, hands the shards to Dask or Ray.
"""

from __future__ import annotations

import os
import signal
from typing import Any, NoReturn

from prefect import Flow
from prefect.exceptions import TerminationSignal

from flows.engines import PrefectEngine, refused, task_runner
from stages import execute
from stages.process import Terminated, available_cores
from stages.report import Report


def main() -> NoReturn:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # tasks see the GPUs, and share them
    execute.main(_make)


def _make(request: dict[str, Any], report: Report) -> None:
    arguments, address, key = request["arguments"], request["address"], request["key"]
    workers = arguments["workers"] or available_cores()
    stopped = False

    def stop(number: int, frame: object) -> NoReturn:
        nonlocal stopped
        stopped = True
        raise KeyboardInterrupt  # the only exception that gets out of a call to Ray; others turn it into their own

    def build() -> None:
        signal.signal(signal.SIGTERM, stop)  # here, as Prefect and Ray have just put their own in the place
        signal.signal(signal.SIGINT, stop)
        execute.build(request, report, PrefectEngine(one_machine=address is None))

    runner = task_runner(arguments["engine"], address, workers)
    try:
        Flow(build, name=f"shards-of-{key['step']}", task_runner=runner)()
    except BaseException as error:
        if stopped or isinstance(error, TerminationSignal):  # Prefect's own, before `build` begins
            raise Terminated(signal.SIGTERM) from error
        if isinstance(error, ConnectionError) and "Ray cluster" in str(error):
            raise refused(error) from error
        raise


if __name__ == "__main__":
    main()
