"""Shards on real clusters of this machine: what is made, what the loss of a worker or of a run costs, what is said."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.engines import EngineError, _explained, _groups, check_engine, task_runner
from flows.shard_task import WorkerError, work_through
from stages.execute import RESUMABLE
from stages.shards import Shard
from tests.flows import toy_step
from tests.flows.test_children import gone_within
from tests.flows.test_kills import command_line, descendants

DASK = str(Path(sys.executable).with_name("dask"))

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("prefect_dask") is None, reason="pip install 'orl-pipeline[dask]'"
)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("prefect_ray") is None, reason="pip install 'orl-pipeline[ray]'"
)
each_engine = pytest.mark.parametrize(
    "engine", [pytest.param("dask", marks=needs_dask), pytest.param("ray", marks=[needs_ray, pytest.mark.slow])]
)
SQUARES = "".join(f"{number**2}\n" for number in range(24))


def environment() -> dict[str, str]:
    from flows.nodes import _environment

    return {**_environment(), "OMP_NUM_THREADS": "1"}


def start(root: Path, engine: str, **arguments: object) -> subprocess.Popen[str]:
    """The child that the flow would start for the toy step."""
    request = root / "request.json"
    request.write_text(json.dumps(toy_step.request(root, engine, **arguments)))
    return subprocess.Popen(
        [sys.executable, "-m", "flows.sharded", str(request)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def finish(child: subprocess.Popen[str]) -> list[dict]:
    """The messages of a child that ends well or badly within two minutes."""
    said, _ = child.communicate(timeout=120)
    return [json.loads(line.removeprefix("@orl ")) for line in said.splitlines() if line.startswith("@orl ")]


def progress(messages: list[dict]) -> list[int]:
    return [message["done"] for message in messages if "done" in message]


def wait_for_beginnings(child: subprocess.Popen[str], root: Path, count: int) -> list[tuple[int, int]]:
    deadline = time.monotonic() + 90
    while len(begun := toy_step.beginnings(root / "seen")) < count:
        assert child.poll() is None, finish(child)
        assert time.monotonic() < deadline, "the cluster does not begin"
        time.sleep(0.05)
    return begun


def result(root: Path) -> str:
    (made,) = root.glob("artifacts/toy/*/numbers.txt")
    return made.read_text()


def made_again(root: Path) -> dict[int, int]:
    counts = Counter(first for first, _ in toy_step.beginnings(root / "seen"))
    return {first: count - 1 for first, count in counts.items() if count > 1}


@pytest.mark.flow
@each_engine
def test_the_loss_of_a_worker_costs_the_shard_it_was_at(prefect_server: None, tmp_path: Path, engine: str) -> None:
    child = start(tmp_path, engine)
    _, worker = wait_for_beginnings(child, tmp_path, 5)[-1]
    os.kill(worker, signal.SIGKILL)
    messages = finish(child)
    assert child.returncode == 0, messages
    assert result(tmp_path) == SQUARES
    # It may have gone on to the next one in the meantime.
    assert sum(made_again(tmp_path).values()) == 1
    assert len({process for _, process in toy_step.beginnings(tmp_path / "seen")}) > 1
    done = progress(messages)
    assert done == sorted(done)
    assert done[-1] == 24


@pytest.mark.flow
@each_engine
@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing_and_goes_on_later(
    prefect_server: None, tmp_path: Path, engine: str, how: signal.Signals
) -> None:
    child = start(tmp_path, engine)
    begun = wait_for_beginnings(child, tmp_path, 5)
    family = descendants(child.pid)
    assert {worker for _, worker in begun} <= family
    child.send_signal(how)
    finish(child)
    assert child.returncode == (-how if how == signal.SIGKILL else RESUMABLE)
    patience = 75 if engine == "ray" else 20  # Ray's own agents wait a minute for their raylet
    for process in family:
        assert gone_within(process, patience), command_line(process)
    child = start(tmp_path, engine)
    messages = finish(child)
    assert child.returncode == 0, messages
    assert progress(messages)[0] >= 6, "finished shards are there from the beginning"
    assert result(tmp_path) == SQUARES
    assert sum(made_again(tmp_path).values()) <= 3, "two in the making, and one that began in the meantime"


@pytest.fixture(scope="module")
def scheduler(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask scheduler with two workers, started as docs/clusters.md says."""
    file = tmp_path_factory.mktemp("scheduler") / "scheduler.json"
    # Installed, the steps are found by the workers; the toy step is no part of the installation.
    where = environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}
    commands = [
        [DASK, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)],
        [DASK, "worker", "--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--scheduler-file", str(file)],
    ]
    processes = []
    try:
        for command in commands:
            processes.append(subprocess.Popen(command, env=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            deadline = time.monotonic() + 60
            while not file.exists():
                assert time.monotonic() < deadline, "the scheduler does not start"
                time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


@pytest.mark.flow
@needs_dask
@pytest.mark.parametrize(
    ("fails", "status", "words"),
    [
        ("once", 0, None),
        ("always", 1, "photo 4 is of another planet"),
        pytest.param("fatally", 1, "lost photos 4 to 5", marks=pytest.mark.slow),
    ],
)
def test_errors_that_pass_are_tried_again_and_others_are_told(
    tmp_path: Path, scheduler: str, fails: str, status: int, words: str | None
) -> None:
    child = start(tmp_path, "dask", address=scheduler, seconds=0.05, fails=fails)
    messages = finish(child)
    assert child.returncode == status, messages
    errors = [message["error"] for message in messages if "error" in message]
    if words is None:
        assert errors == []
        assert result(tmp_path) == SQUARES
        assert made_again(tmp_path) == {4: 1}
    else:
        assert len(errors) == 1
        assert words in errors[0]


@pytest.mark.flow
@needs_dask
def test_a_cluster_that_is_there_outlives_the_run_but_its_tasks_do_not(tmp_path: Path, scheduler: str) -> None:
    child = start(tmp_path, "dask", address=scheduler, photos=2000, seconds=0.2)  # a task of several shards
    wait_for_beginnings(child, tmp_path, 5)
    child.terminate()
    messages = finish(child)
    assert child.returncode == RESUMABLE, messages
    time.sleep(1)
    begun = len(toy_step.beginnings(tmp_path / "seen"))
    time.sleep(2)
    assert len(toy_step.beginnings(tmp_path / "seen")) == begun, "no task goes on"
    child = start(tmp_path, "dask", address=scheduler)  # another artifact, on the same workers
    messages = finish(child)
    assert child.returncode == 0, messages
    assert progress(messages)[-1] == 24


def test_no_answer_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        for engine, start_it in (("dask", "dask scheduler"), ("ray", "ray start --head")):
            if importlib.util.find_spec(f"prefect_{engine}") is not None:
                with pytest.raises(EngineError, match=rf"{free}: nothing answers there .* Start `{start_it}"):
                    task_runner(engine, f"tcp://127.0.0.1:{free}", 2)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"needs the package prefect-ray.*pip install 'orl-pipeline\[ray\]'"):
        check_engine("ray")
    check_engine("local")


def test_a_worker_that_sees_other_files_or_has_other_code_says_so(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=rf"on {socket.gethostname()} does not see .*nowhere: .* shared file system"):
        work_through(len, [], tmp_path / "nowhere" / "sign", None)
    (tmp_path / "sign").touch()
    with pytest.raises(WorkerError, match=r"other code in .*same commit"):
        work_through(len, [], tmp_path / "sign", "of yesterday")


def test_what_is_wrong_with_the_cluster_is_explained() -> None:
    shards = [Shard(0, 2, Path("a")), Shard(2, 4, Path("b"))]
    told = _explained(RuntimeError("Failed to reach API at http://127.0.0.1:4200/api"), shards)
    assert "PREFECT_API_URL" in str(told)
    told = _explained(RuntimeError("Error during deserialization of the task graph"), shards)
    assert "install orl-pipeline" in str(told)
    ours = ValueError("the work's own")
    assert _explained(ours, shards) is ours


@pytest.mark.parametrize(("count", "most"), [(1, 256), (12, 256), (256, 256), (1000, 256), (10, 3)])
def test_tasks_are_runs_of_consecutive_shards_and_never_too_many(count: int, most: int) -> None:
    shards = [Shard(number, number + 1, Path(str(number))) for number in range(count)]
    groups = _groups(shards, most)
    assert [shard for group in groups for shard in group] == shards
    assert len(groups) == min(count, most)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
