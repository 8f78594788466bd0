"""The steps of a plan as Prefect tasks: each up to date, or made in a child process."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed, State
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.children import allow_children, run_module, stop_children
from flows.prepare import located, store_root
from flows.terminal import Pace, figures_line, terminal
from stages.config.tree import Run
from stages.execute import RESUMABLE, portable
from stages.plan import PARALLEL_STEPS, Node, Plan
from stages.store import Store
from stages.store.key import Key

_SECONDS_BETWEEN_UI_UPDATES = 2.0

# Training on a GPU leaves the processor to the proposals; on the CPU the two would only slow each other down.
_TASKS_AT_ONCE = 2 if Path("/proc/driver/nvidia/version").exists() else 1
RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=_TASKS_AT_ONCE)


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="{name}")
def run_step(name: str, config: str, key: dict[str, Any], request: dict[str, Any]) -> State:
    """One step. Ends as `Cached` when its artifact is up to date, as `Completed` when it was made.

    Either way `latest/<config>/<name>` then links to it. `key` and `request` are plain values, so that the run page
    shows what decides the result.
    """
    wanted, store = Key(**key), Store(store_root())
    version = f"{wanted.step}/{wanted.version}"
    artifact = None if request["force"] else store.find(wanted)
    if artifact is not None:
        store.link(config, name, artifact)
        terminal.end(name, "cached", version)
        return Completed(name="Cached", message=f"{version} is up to date")
    terminal.start(name)
    started = time.monotonic()
    failure = _work(name, version, {**request, "key": key, "store": str(store.root)})
    artifact = store.find(wanted)
    if failure is None and artifact is None:
        failure = f"the step ended without an error, but {version} is not there"
    if failure is not None or artifact is None:
        terminal.end(name, "failed", failure or "")
        return Failed(message=failure)
    store.link(config, name, artifact)
    made = f"{version}  {time.monotonic() - started:.0f} s"
    terminal.end(name, "made", made)
    return Completed(message=made)


def _work(name: str, version: str, request: dict[str, Any]) -> str | None:
    """Runs the step in a child process. Returns what went wrong, or None."""
    progress = _ProgressPage(name)
    failure: str | None = None

    def listen(message: dict[str, Any]) -> None:
        nonlocal failure
        if "done" in message:
            terminal.progress(name, message["done"], message["total"], message["unit"], message["figures"])
            progress.update(message["done"], message["total"], message["unit"], message["figures"])
        elif "log" in message:
            terminal.say(message["log"], message["level"])
        elif "error" in message:
            failure = failure or message["error"]  # of several processes the first to fail takes the others with it

    log = store_root() / "logs" / f"{version.replace('/', '-')}.log"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(request, file)
        file.flush()
        status = run_module(*_entry(request), file.name, log=log, on_message=listen, environment=_environment())
    if status == 0:
        return None
    if status == RESUMABLE:
        return "was asked to stop; its work so far is kept, and the same command goes on from there"
    if failure is not None:
        return f"{failure} (whole log: {log})"
    if status == -signal.SIGKILL:
        return (
            "its process was killed, most often because memory ran out: lower the batch size, or use a larger machine"
        )
    return f"its process ended with status {status}; the last lines of {log} say more"


def _entry(request: dict[str, Any]) -> list[str]:
    """The module that carries out `request`, and its first arguments."""
    if request["processes"] is not None:  # a training, which alone may be several processes
        return ["stages.launch", str(request["processes"])]
    if request["arguments"].get("engine", "local") != "local":
        return ["flows.sharded"]
    return ["stages.execute"]


def _environment() -> dict[str, str]:
    """That of a child which may open a flow of its own: the same server, but not the identity of this run."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
    return inherited | get_current_settings().to_environment_variables(exclude_unset=True)


class _ProgressPage:
    """The progress artifact of one step on the run page: the same as in the terminal, at most every two seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._artifact: Any = None  # its number, once there is one
        self._pace: Pace | None = None

    def update(self, done: int, total: int, unit: str, figures: dict[str, Any]) -> None:
        first = self._pace is None
        self._pace = self._pace or Pace(done)
        if not (first or done >= total or self._pace.speaks(_SECONDS_BETWEEN_UI_UPDATES)):
            return
        percent = 100.0 * done / max(total, 1)
        said = (f"{done}/{total} {unit}", self._pace.left(done, total), figures_line(figures))
        description = f"{self._name}: {'  '.join(part for part in said if part)}"
        if self._artifact is None:
            self._artifact = create_progress_artifact(percent, description=description)
        else:
            update_progress_artifact(self._artifact, percent, description=description)


def run_nodes(
    config: str, plan: Plan, nodes: Sequence[Node], settings: Run, forced: Collection[str] = ()
) -> dict[str, State]:
    """Runs `nodes` in the flow that calls it, each after those that it needs, and waits for all.

    Args:
        config: the name under which what is made is linked.
        forced: names of nodes that are made again although they are up to date.

    Returns:
        The final state of each node. None of them raises: a failed one takes with it those that need it.
    """
    store = Store(store_root())
    futures: dict[str, PrefectFuture[Any]] = {}
    allow_children()
    try:
        with terminal:
            for node in nodes:
                key = plan.keys[node.name]
                request = {
                    "target": node.target,
                    "arguments": portable(located(dict(node.arguments), plan, store)),
                    "seed": node.seed,
                    "force": node.name in forced,
                    "address": settings.address,
                    "processes": settings.processes if node.step in PARALLEL_STEPS else None,
                }
                needed = [futures[other] for other in (*node.inputs, *node.after)]
                arguments = {"name": node.name, "config": config, "key": key.as_dict(), "request": request}
                futures[node.name] = run_step.submit(**arguments, return_state=False, wait_for=needed)
            for future in futures.values():
                future.wait()
    except BaseException:  # Ctrl-C, SIGTERM or a cancelled run: no child outlives the flow
        stop_children()
        raise
    return {node: future.state for node, future in futures.items()}


def failed_state(states: Mapping[str, State]) -> State | None:
    """What went wrong, in one state; None when every step is up to date."""
    if all(state.is_completed() for state in states.values()):
        return None
    broken = {node: state for node, state in states.items() if state.is_failed() or state.is_crashed()}
    return Failed(message="\n".join(f"{node}: {state.message}" for node, state in broken.items()))
