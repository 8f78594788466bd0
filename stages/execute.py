"""Runs one step in a process of its own: `python -m stages.execute REQUEST.json`.

The process holds the lock on the artifact that it makes, so the kernel frees it when the process dies, however it dies.
Its exit status: 0 the artifact is there; 75 the step was asked to stop and can be resumed; 1 it failed, and the last
message says why.
"""

from __future__ import annotations

import importlib
import json
import logging
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from stages.process import (
    GRACE_SECONDS,
    Terminated,
    available_cores,
    die_with_parent,
    launched,
    local_world_size,
    never_outlive_parent,
    rank,
)
from stages.report import Report, ReportHandler, StreamReport
from stages.shards import Engine, LocalEngine
from stages.store import Store
from stages.store.key import Key

Item = TypeVar("Item")

RESUMABLE = 75  # EX_TEMPFAIL
FAILED = 1


def main(make: Callable[[dict[str, Any], Report], None] | None = None) -> NoReturn:
    """The process from its start to its exit status. `make(request, report)` makes the artifact; None for `build`."""
    die_with_parent()
    never_outlive_parent(GRACE_SECONDS)
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _terminate)
    report = StreamReport(sys.stdout)
    # Of several processes that train together one says what all do.
    logging.getLogger("stages").setLevel(logging.INFO if rank() == 0 else logging.WARNING)
    logging.getLogger("stages").addHandler(ReportHandler(report))
    request = json.loads(Path(sys.argv[1]).read_text())
    try:
        with together():
            (make or build)(request, report)
    except Terminated:
        sys.exit(RESUMABLE)
    except Exception as error:
        # The traceback goes to the step's log; the user is shown the message, and where the log is.
        traceback.print_exc(file=sys.stdout)
        report.send(error=str(error) or "no message", kind=type(error).__name__)
        sys.exit(FAILED)
    sys.exit(0)


def build(request: dict[str, Any], report: Report, engine: Engine | None = None) -> None:
    """Makes the artifact that `request` describes, unless another process has made it meanwhile.

    Of several processes that train together the first one holds the lock, writes and publishes; the others work along.

    Args:
        engine: works on the shards of a step that has any; None for processes of this machine.
    """
    arguments = {name: _revived(value) for name, value in request["arguments"].items()}
    if arguments.get("workers") == 0:
        arguments["workers"] = max(1, available_cores() // local_world_size())
    if "engine" in arguments:
        arguments["engine"] = engine or LocalEngine(arguments["workers"])
    if arguments.get("device") == "auto" and engine is None:  # the machines of a cluster look for themselves
        arguments["device"] = _best_device()
    step = importlib.import_module(request["target"])
    if rank() > 0:
        path = shared(None)
        if path is not None:
            step.run(out=path, report=Report(), **arguments)
        return
    store = Store(Path(request["store"]))
    key, settings = Key(**request["key"]), {"seed": request["seed"], "force": request["force"]}
    # While this process waits for another run the others of its group would wait for this one, and give up.
    with store.build(key, device=arguments.get("device"), wait=not launched(), **settings) as partial:
        wanted = partial.artifact is None
        shared(partial.path if wanted else None)
        if wanted:
            step.run(out=partial.path, report=report, **arguments)
            partial.publish(report.metrics)


def together() -> AbstractContextManager[None]:
    """Joins the processes that `torch.distributed.run` has started, for the time of a `with` block."""
    if not launched():
        return nullcontext()
    from stages.learning.distributed import process_group  # PyTorch takes seconds, and only some steps need it

    return process_group()


def shared(item: Item) -> Item:
    """What the first process passes, in all processes that train together."""
    if not launched():
        return item
    from stages.learning.distributed import from_first_process

    return from_first_process(item)


def portable(value: Any) -> Any:
    """Paths marked, so that a request can be written as JSON and read back."""
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, dict):
        return {name: portable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return value


def _revived(value: Any) -> Any:
    if isinstance(value, dict):
        return Path(value["path"]) if set(value) == {"path"} else {name: _revived(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_revived(item) for item in value]
    return value


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated(number)


if __name__ == "__main__":
    main()
