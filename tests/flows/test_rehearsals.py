"""Each file in configs/ as a rehearsal, from its photos to its report: `orl run CONFIG --tiny`.

The steps run in this process, as `orl step` runs them: a process each would mostly load libraries, and
tests/flows/test_pipeline.py has that for the demo. Then the flow finds every step up to date and sums up what they
made. All share a store, so that what several of them need is made once, as it is for a user.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.prepare import prepare
from stages.config.files import config_names
from stages.store import Store

pytestmark = pytest.mark.flow

CPU = ["run.device=cpu", "run.workers=1"]


@pytest.mark.parametrize("name", [name for name in config_names() if name != "demo"])
def test_a_config_runs_from_photos_to_a_report(name: str, prefect_server: None, artifacts: Path) -> None:
    from flows.pipeline import orl_pipeline
    from flows.step import run_step_here

    _, _, plan = prepare(name, CPU, tiny=True)  # the files that it names are not there, and not needed
    for step in plan.nodes:
        run_step_here(name, CPU, tiny=True, step=step)
    assert orl_pipeline(name, CPU, tiny=True, return_state=True).is_completed()

    made = Store(artifacts).latest(f"{name}-tiny")
    assert set(made) == set(plan.nodes)
    trained = {"image_pretraining", "object_pretraining"} & set(made)
    results = json.loads(made["evaluation"].file("results.json").read_text())
    assert {row["encoder"] for row in results} == {"random"} | trained
    assert made["object_pretraining"].file("encoder.safetensors").is_file()
