"""What the README tells a user to type: `prefect deploy`, a worker, `prefect deployment run`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.store import Store
from tests.flows.test_children import gone_within

pytestmark = pytest.mark.flow

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[dict[str, str]]:
    """The environment of a user with a server, both deployments and a worker running."""
    from flows.server import temporary_server

    home = tmp_path_factory.mktemp("served")
    changed = {"PREFECT_HOME": str(home), "DO_NOT_TRACK": "1", "ORL_ARTIFACTS": str(artifacts)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setenv(name, value)
        with temporary_server(home / "server.log") as url:
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            environment = {**os.environ, "PREFECT_API_URL": url, "PATH": path}
            run(environment, "work-pool", "create", "local", "--type", "process", "--overwrite")
            run(environment, "--no-prompt", "deploy", "--all")
            with (home / "worker.log").open("w") as log:
                worker = subprocess.Popen(
                    [PREFECT, "worker", "start", "--pool", "local"],
                    cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
            try:
                yield environment
            finally:
                worker.send_signal(signal.SIGINT)
                try:
                    worker.wait(20)
                except subprocess.TimeoutExpired:
                    worker.kill()


def run(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [PREFECT, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def flow_run_state(environment: dict[str, str], flow_run: str) -> str:
    shown = run(environment, "flow-run", "inspect", flow_run, "--output", "json")
    return re.findall(r'"state_name":\s*"(\w+)"', shown)[0]


def test_both_deployments_are_registered(served: dict[str, str]) -> None:
    listed = run(served, "deployment", "ls")
    assert "orl-pipeline/demo" in listed
    assert "orl-pipeline/coco" in listed


def test_a_deployment_runs_and_its_results_are_where_they_belong(served: dict[str, str], artifacts: Path) -> None:
    shown = run(served, "deployment", "run", "orl-pipeline/demo", "--watch",
                "--param", "tiny=true", "--param", 'until="catalog"')  # fmt: skip
    assert "Completed" in shown
    assert set(Store(artifacts).latest("demo-tiny")) == {"demo_photos", "scenes", "catalog"}


def test_cancelling_leaves_no_process_behind(served: dict[str, str], artifacts: Path) -> None:
    long = '["image_pretraining.epochs=100000 steps"]'
    shown = run(served, "deployment", "run", "orl-pipeline/demo", "--param", "tiny=true",
                "--param", f"overrides={long}", "--param", 'until="image_pretraining"')  # fmt: skip
    flow_run = re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", shown)[0]
    child = _training_process(artifacts, 90)
    run(served, "flow-run", "cancel", flow_run)
    assert gone_within(child, 60)
    deadline = time.monotonic() + 60
    while (state := flow_run_state(served, flow_run)) in ("Cancelling", "Running") and time.monotonic() < deadline:
        time.sleep(1)
    assert state == "Cancelled"
    partials = list((artifacts / "image_pretraining").glob("*.partial"))
    assert any((partial / "scratch" / "checkpoint.pt").is_file() for partial in partials), "its work is kept"


def _training_process(artifacts: Path, seconds: float) -> int:
    """The process id of a `stages.launch` that has trained some steps."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(log.stat().st_size for log in artifacts.glob("image_pretraining/*.partial/metrics.jsonl")):
            time.sleep(0.2)
            continue
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_text().split("\0")
                if "stages.launch" in command and '"stages.image_pretraining"' in Path(command[-2]).read_text():
                    return int(folder.name)
            except OSError:
                continue
        time.sleep(0.2)
    raise AssertionError("no training process was started")
