"""`orl step`: one step in this process, without Prefect, also as one of many that `torchrun` has started.

A flow trains on the GPUs of one machine. For several machines each runs

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --no-python \\
        orl step coco image_pretraining

over an artifact folder that all of them see. `orl run coco` then finds the step up to date.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flows.prepare import located, prepare, store_root
from flows.terminal import terminal
from stages.execute import build, portable, shared, together
from stages.process import rank
from stages.report import Report
from stages.store import Store


class _TerminalReport(Report):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
        terminal.progress(self._name, done, total, unit, figures)


class _TerminalHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        terminal.say(record.getMessage(), record.levelname)


@contextmanager
def _log_in_terminal() -> Iterator[None]:
    ours, handler = logging.getLogger("stages"), _TerminalHandler()
    former = ours.level
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(former)


def run_step_here(config: str, overrides: Sequence[str], tiny: bool, step: str) -> None:
    """Makes one step whose inputs are there; of several processes the first one plans, writes and publishes.

    Raises:
        ValueError, OSError: the request can't be carried out, or an input is missing.
    """
    with together():
        request = shared(_request(config, overrides, tiny, step) if rank() == 0 else None)
        assert request is not None, "the first process has made it"
        if rank() > 0:
            build(request, Report())
            return
        with terminal, _log_in_terminal():
            terminal.start(step)
            build(request, _TerminalReport(step))
            terminal.end(step, "cached" if request["cached"] else "made", request["version"])


def _request(config: str, overrides: Sequence[str], tiny: bool, step: str) -> dict[str, Any]:
    _, _, plan = prepare(config, overrides, tiny, step)
    store = Store(store_root())
    if step not in plan.nodes:
        raise ValueError(f"'{step}' is no step of this config. There are: {', '.join(plan.nodes)}.")
    node = plan.nodes[step]
    missing = [name for name in (*node.inputs, *node.after) if store.find(plan.keys[name]) is None]
    if missing:
        raise ValueError(
            f"{step} needs {', '.join(missing)}, which are not there yet. On one machine: "
            f"`orl run {config} --until {missing[-1]}` with the same --set."
        )
    key = plan.keys[step]
    return {
        "target": node.target,
        "arguments": portable(located(dict(node.arguments), plan, store)),
        "seed": node.seed,
        "force": False,
        "key": key.as_dict(),
        "store": str(store.root),
        "cached": store.find(key) is not None,
        "version": f"{key.step}/{key.version}",
    }
