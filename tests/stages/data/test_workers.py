"""Data workers: whatever happens to the training process, they neither outlive it nor leave it before its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SCRIPT = """
import os, signal, sys
from pathlib import Path
from stages.data.catalog import Catalog
from stages.data.loading import photo_loader

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: print("asked to stop", flush=True))
    catalog = Catalog(Path(sys.argv[1]), Path(sys.argv[2]))
    batches = iter(photo_loader(catalog, resize=32, crop=32, batch_size=1, workers=2))
    first = next(batches)
    print(*(worker.pid for worker in batches._workers), flush=True)
    {then}
"""


def start(then: str, photo_catalog, script: Path) -> subprocess.Popen:
    """A process that reads one batch of eight with two workers, prints their ids, and does `then` (Python)."""
    script.write_text(SCRIPT.format(then=then))
    return subprocess.Popen(
        [sys.executable, script, photo_catalog.directory, photo_catalog.root],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}, cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def processes(photo_catalog, tmp_path_factory) -> Iterator[dict[str, subprocess.Popen]]:
    """Started together, because most of their time goes by while they start."""
    folder = tmp_path_factory.mktemp("scripts")
    started = {
        "killed": start("os.kill(os.getpid(), signal.SIGKILL)", photo_catalog, folder / "killed.py"),
        "stopped": start("input(); next(batches); print('done'); sys.exit(75)", photo_catalog, folder / "stopped.py"),
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def workers_of(process: subprocess.Popen) -> list[Path]:
    """Their folders in /proc, once they have begun."""
    workers = [Path("/proc") / pid for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    return workers


def gone(workers: list[Path]) -> bool:
    deadline = time.monotonic() + 10
    while any(worker.exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(worker.exists() for worker in workers)


def test_workers_die_with_a_killed_parent(processes):
    process = processes["killed"]
    workers = workers_of(process)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert gone(workers)


def test_a_request_to_stop_reaches_the_parent_alone(processes):
    """So it can finish its step, for which it needs data; and then end, with a loader that is still in use."""
    process = processes["stopped"]
    workers = workers_of(process)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "asked to stop\n"
    time.sleep(0.5)
    assert all(worker.exists() for worker in workers)
    output, _ = process.communicate("go on\n", timeout=60)
    assert output == "done\n"
    assert process.returncode == 75
    assert gone(workers)
