"""Worker processes: order, bounded memory, and that none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from stages.process import Terminated, ordered_map, pool

ROOT = Path(__file__).parents[2]


def _slow_when_even(item: int) -> int:
    time.sleep(0.02 * (item % 2 == 0))
    return item * item


def _environment(_: int) -> tuple[int, str, bool]:
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return os.getpid(), os.environ["OMP_NUM_THREADS"], ignored


def _crash(item: int) -> None:
    os._exit(1)


def _fail(item: int) -> None:
    raise KeyError(item)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_keep_their_order(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pool(workers) as processes:
        assert list(ordered_map(processes, _slow_when_even, range(20), window=4)) == [n * n for n in range(20)]


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 5)])
def test_only_a_window_is_taken_from_the_items(workers: int, ahead: int) -> None:
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    with pool(workers) as processes:
        results = ordered_map(processes, abs, items(), window=5)
        for consumed in range(10):
            next(results)
            assert len(taken) == consumed + ahead
        results.close()


def test_workers_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with pool(2) as processes:
        found = list(ordered_map(processes, _environment, range(4), window=4))
    assert {each[1:] for each in found} == {("1", True)}
    assert os.getpid() not in {each[0] for each in found}


@pytest.mark.parametrize("workers", [1, 2])
def test_initializer_runs_and_errors_arrive(tmp_path: Path, workers: int) -> None:
    with pool(workers, partial(Path.touch, tmp_path / "prepared")) as processes, pytest.raises(KeyError):
        list(ordered_map(processes, _fail, range(3), window=2))
    assert (tmp_path / "prepared").exists()


def test_death_of_a_worker_is_explained() -> None:
    with pool(2) as processes, pytest.raises(RuntimeError, match=r"memory ran out.*Lower run.workers"):
        list(ordered_map(processes, _crash, range(3), window=2))


def test_window_must_hold_something() -> None:
    with pytest.raises(ValueError, match="window=0"):
        next(ordered_map(pool(1), abs, [1], window=0))


def test_terminated_is_not_swallowed_as_a_failure() -> None:
    assert not issubclass(Terminated, Exception)


PARENT = r"""
import os, time
from stages.process import ordered_map, pool

def work(item):
    os.write(1, f"{os.getpid()}\n".encode())  # whole, whoever else writes
    time.sleep(60)

if __name__ == "__main__":
    with pool(2) as processes:
        list(ordered_map(processes, work, range(2), window=2))
"""

CHILD = """
import os, time
from stages.process import die_with_parent
child = os.fork()
if child == 0:
    die_with_parent()
    print(os.getpid(), flush=True)
time.sleep(60)
"""

# SIGTERM is lost on this one.
STUBBORN_CHILD = (
    CHILD.replace("import os, time", "import os, signal, time")
    .replace(
        "    die_with_parent()",
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    die_with_parent()\n    never_outlive_parent(0.2)",
    )
    .replace("import die_with_parent", "import die_with_parent, never_outlive_parent")
)


def _alive(process: int) -> bool:
    """Whether it runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_until_gone(process: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while _alive(process) and time.monotonic() < end:
        time.sleep(0.02)
    return not _alive(process)


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@needs_proc
@pytest.mark.parametrize(("script", "children"), [(PARENT, 2), (CHILD, 1), (STUBBORN_CHILD, 1)])
def test_children_die_when_their_parent_is_killed(tmp_path: Path, script: str, children: int) -> None:
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            started = [int(parent.stdout.readline()) for _ in range(children)]
            assert all(_alive(child) for child in started)
        finally:
            parent.kill()
    assert all(_wait_until_gone(child) for child in started)


@pytest.mark.parametrize(("expected", "status"), [("os.getppid()", 0), ("999_999_999", -signal.SIGTERM)])
def test_a_child_whose_parent_is_already_gone_ends_at_once(expected: str, status: int) -> None:
    """Another `expected_parent` than the real one: as if the expected one had died and the child been adopted."""
    code = f"import os; from stages.process import die_with_parent; die_with_parent(expected_parent={expected})"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == status
