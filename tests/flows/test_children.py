"""Child processes are listened to, stopped, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.children import allow_children, run_child, stop_children

CHATTY = """
import json, sys
print("an ordinary line")
print("@orl " + json.dumps({"done": 1, "total": 2}))
print("another", file=sys.stderr)
sys.exit(3)
"""

SLEEPER = """
import sys, time
from stages.process import die_with_parent
die_with_parent()
print("@orl {}", flush=True)
time.sleep(60)
"""

# A parent that starts SLEEPER as the flow does and says its process id.
PARENT = """
import sys, threading
from pathlib import Path
from flows import children
def listen(message):
    print(next(iter(children._alive)).pid, flush=True)
thread = threading.Thread(target=children.run_child, args=([sys.executable, "-c", sys.argv[1]],),
                          kwargs=dict(log=Path(sys.argv[2]), on_message=listen))
thread.start()
thread.join()
"""


@pytest.fixture(autouse=True)
def _allow() -> Iterator[None]:
    allow_children()
    yield
    allow_children()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def gone_within(process: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_alive(process):
            return True
        time.sleep(0.05)
    return False


def test_messages_go_to_the_listener_and_other_lines_to_the_log(tmp_path: Path) -> None:
    messages: list[dict] = []
    status = run_child([sys.executable, "-c", CHATTY], log=tmp_path / "a" / "log", on_message=messages.append)
    assert status == 3
    assert messages == [{"done": 1, "total": 2}]
    assert (tmp_path / "a" / "log").read_text().splitlines() == ["an ordinary line", "another"]


def test_stopping_ends_a_running_child_and_starts_no_other(tmp_path: Path) -> None:
    running = threading.Event()
    statuses: list[int] = []

    def work() -> None:
        statuses.append(
            run_child([sys.executable, "-c", SLEEPER], log=tmp_path / "log", on_message=lambda _: running.set())
        )

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait(30)
    stop_children()
    thread.join(10)
    assert statuses == [-signal.SIGTERM]
    assert run_child([sys.executable, "-c", "print()"], log=tmp_path / "log", on_message=lambda _: None) < 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_does_not_outlive_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, SLEEPER, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.send_signal(how)
    parent.wait(10)
    assert gone_within(child, 5)
