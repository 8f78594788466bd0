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
from pathlib import Path
from typing import Any, NoReturn

from stages.process import Terminated, available_cores, die_with_parent
from stages.report import ReportHandler, StreamReport
from stages.store import Store
from stages.store.key import Key

RESUMABLE = 75  # EX_TEMPFAIL
FAILED = 1


def main() -> NoReturn:
    die_with_parent()
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _terminate)
    report = StreamReport(sys.stdout)
    logging.getLogger("stages").setLevel(logging.INFO)
    logging.getLogger("stages").addHandler(ReportHandler(report))
    request = json.loads(Path(sys.argv[1]).read_text())
    try:
        build(request, report)
    except Terminated:
        sys.exit(RESUMABLE)
    except Exception as error:
        # The traceback goes to the step's log; the user is shown the message, and where the log is.
        traceback.print_exc(file=sys.stdout)
        report.send(error=str(error) or "no message", kind=type(error).__name__)
        sys.exit(FAILED)
    sys.exit(0)


def build(request: dict[str, Any], report: StreamReport) -> None:
    """Makes the artifact that `request` describes, unless another process has made it meanwhile."""
    key = Key(**request["key"])
    arguments = {name: _revived(value) for name, value in request["arguments"].items()}
    if arguments.get("workers") == 0:
        arguments["workers"] = available_cores()
    if arguments.get("device") == "auto":
        arguments["device"] = _best_device()
    store = Store(Path(request["store"]))
    with store.build(key, seed=request["seed"], device=arguments.get("device"), force=request["force"]) as partial:
        if partial.artifact is None:
            step = importlib.import_module(request["target"])
            step.run(out=partial.path, report=report, **arguments)
            partial.publish(report.metrics)


def portable(value: Any) -> Any:
    """Paths marked, so that a request can be written as JSON and read back."""
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, dict):
        return {name: portable(item) for name, item in value.items()}
    return value


def _revived(value: Any) -> Any:
    if isinstance(value, dict):
        return Path(value["path"]) if set(value) == {"path"} else {name: _revived(item) for name, item in value.items()}
    return value


def _best_device() -> str:
    import torch  # takes seconds, and only some steps need it

    return "cuda" if torch.cuda.is_available() else "cpu"


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated(number)


if __name__ == "__main__":
    main()
