"""`orl sweep`: the members of a sweep, each with every seed, one flow run after the other, and their table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from prefect.exceptions import TerminationSignal

from flows import sweep_table
from flows.foreground import FAILED, INTERRUPTED, reporting
from flows.pipeline import orl_pipeline
from flows.prepare import prepare, store_root
from flows.sweep_runs import Run
from flows.terminal import console
from stages.config.sweep import Sweep, load_sweep
from stages.store import Store


def run_sweep(file: str, overrides: list[str], seeds: list[int] | None, only: list[str] | None, tiny: bool) -> int:
    """Runs a sweep. Returns the exit status: 1 when a run has failed, which does not keep the others from running.

    Each run is that of a configuration of its own, `artifacts/sweeps/<name>/<name>-<member>-seed<seed>.yaml`. What
    several of them need has one version and is made once. The table is written after each run.

    Args:
        file: a sweep file, or the stem of one in configs/ablations/.
        overrides: `section.field=value`, for all runs, with the last word.
        seeds, only: seeds instead of the file's, and the members that are run; None: as the file says.

    Raises:
        ValueError, OSError: the request can't be carried out; nothing was started.
    """
    name, sweep = load_sweep(file, seeds, only)
    name += "-tiny" if tiny else ""
    folder = store_root() / "sweeps" / name
    runs = [
        _planned(sweep, member, seed, folder, overrides, tiny)
        for seed in sweep.seeds  # all members once before any of them twice: an unfinished sweep can be read
        for member in sweep.members
    ]
    _announce(name, runs)
    stopped = False
    try:
        with reporting():
            for number, run in enumerate(runs, 1):
                console.print(f"\n[bold]{name}[/], run {number} of {len(runs)}: {run.title}", soft_wrap=True)
                try:
                    _carry_out(run, f"{name}: {run.title}", overrides, tiny)
                finally:
                    sweep_table.write(folder, name, sweep, overrides, runs)
    except (KeyboardInterrupt, TerminationSignal):  # Prefect's own, while a flow runs
        stopped = True
    sweep_table.show(folder, sweep, runs)
    failed = [run for run in runs if run.outcome == "failed"]
    for run in failed:
        print(f"error: {run.title}: {run.reason}", file=sys.stderr)
    return INTERRUPTED if stopped else FAILED if failed else 0


def _planned(sweep: Sweep, member: str, seed: int, folder: Path, overrides: Sequence[str], tiny: bool) -> Run:
    """Writes the configuration of one run and makes its plan."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / f"{folder.name.removesuffix('-tiny')}-{member}-seed{seed}.yaml"
    base = os.path.relpath(sweep.extends, folder)
    text = yaml.safe_dump({"extends": base} | sweep.settings(member, seed), sort_keys=False)
    sweep_table.replace(config, f"# Member {member} with seed {seed}. `orl sweep` writes this file anew.\n{text}")
    try:
        name, settings, plan = prepare(str(config), overrides, tiny)
    except (ValueError, OSError) as error:
        raise ValueError(f"member '{member}': {error}") from None
    if settings.run.seed != seed:
        raise ValueError(f"--set run.seed={settings.run.seed} would give all runs one seed: use --seeds instead")
    return Run(member, seed, name, config, plan)


def _announce(name: str, runs: Sequence[Run]) -> None:
    store = Store(store_root())
    keys = [key for run in runs for key in run.plan.keys.values()]
    different = {(key.step, key.version): key for key in keys}
    there = sum(store.find(key) is not None for key in different.values())
    console.print(
        f"[bold]{name}[/]: {len(runs)} runs of {len(keys)} steps in all, which make {len(different)} different "
        f"artifacts; {there} of these are there",
        soft_wrap=True,
    )


def _carry_out(run: Run, title: str, overrides: list[str], tiny: bool) -> None:
    """Runs the flow for `run` and keeps in it how that ended and what the evaluation says."""
    run.outcome = "stopped"
    state = orl_pipeline.with_options(flow_run_name=title)(
        str(run.config), overrides, None, None, tiny, return_state=True
    )
    if not state.is_completed():
        run.outcome, run.reason = "failed", str(state.message)
        return
    evaluation = Store(store_root()).find(run.plan.keys["evaluation"])
    if evaluation is None:
        run.outcome, run.reason = "failed", "the photos have changed since it was planned: run the sweep again"
        return
    run.outcome = "done"
    run.results = json.loads(evaluation.file("results.json").read_text())
