"""Child processes that do the work: started, listened to, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.process import GRACE_SECONDS
from stages.report import MESSAGE_PREFIX

_alive: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()
_stopping = threading.Event()


def run_child(
    command: Sequence[str],
    *,
    log: Path,
    on_message: Callable[[dict[str, Any]], None],
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs `command` to its end, passes its messages on, writes every other line to `log`. Returns the exit status.

    Its environment is `environment`, or that of this process.

    The child stays in this process group, so a signal to the group reaches it too, and it asks the kernel for a
    SIGTERM at the death of its parent (`stages.process.die_with_parent`).
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**(environment or os.environ), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    with log.open("a") as lines:
        with _lock:
            if _stopping.is_set():
                return -signal.SIGTERM
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", env=environment,
            )  # fmt: skip
            _alive.add(child)
        assert child.stdout is not None, "asked for a pipe"
        try:
            for line in child.stdout:
                if line.startswith(MESSAGE_PREFIX):
                    on_message(json.loads(line[len(MESSAGE_PREFIX) :]))
                else:
                    lines.write(line)
                    lines.flush()
            return child.wait()
        finally:
            _stop(child)
            with _lock:
                _alive.discard(child)


def run_module(
    module: str,
    *arguments: str,
    log: Path,
    on_message: Callable[[dict[str, Any]], None],
    environment: Mapping[str, str] | None = None,
) -> int:
    command = [sys.executable, "-m", module, *arguments]
    return run_child(command, log=log, on_message=on_message, environment=environment)


def stop_children() -> None:
    """Ends every child: SIGTERM, time to write a checkpoint, then SIGKILL. No further child is started."""
    _stopping.set()
    with _lock:
        children = list(_alive)
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        _stop(child)


def allow_children() -> None:
    """Undoes `stop_children` for the next run in this process."""
    _stopping.clear()


def _stop(child: subprocess.Popen[str]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
