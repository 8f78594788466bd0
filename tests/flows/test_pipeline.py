"""The flow on the rehearsal of the demo: real steps in real child processes, under a real Prefect server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from flows.prepare import prepare
from stages.store import Store

pytestmark = pytest.mark.flow

Outcome = dict[str, str]
STEPS = ["demo_photos", "scenes", "catalog", "image_pretraining", "retrieval", "regions", "roi_features",
         "correspondence", "object_pretraining", "catalog_train", "catalog_test", "evaluation"]  # fmt: skip


@pytest.fixture(scope="module")
def run(prefect_server: None, artifacts: Path) -> Callable[..., Outcome]:
    """Runs the flow and returns the name of each task's final state."""
    from flows.pipeline import orl_pipeline

    def outcome(*overrides: str, **options: Any) -> Outcome:
        state = orl_pipeline("demo", list(overrides), tiny=True, return_state=True, **options)
        outcomes = task_states(state.state_details.flow_run_id)
        return outcomes | ({"flow": f"{state.name}: {state.message}"} if state.is_failed() else {})

    return outcome


def task_states(flow_run: UUID) -> Outcome:
    """The states that the server shows, once it shows them all: it hears of them a moment after they happen."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    before: Outcome | None = None
    with get_client(sync_client=True) as client:
        while True:
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))
            now = {run.name: str(run.state_name) for run in runs}
            if now == before and "Running" not in now.values():
                return now
            before = now
            time.sleep(2)


@pytest.fixture(scope="module")
def first(run: Callable[..., Outcome]) -> Outcome:
    return run()


def test_a_first_run_makes_every_step(first: Outcome, artifacts: Path) -> None:
    # In a rehearsal the photos to train on are the labelled ones, and a catalog is made once.
    assert first == {step: "Completed" for step in STEPS} | {"catalog_train": "Cached"}
    latest = Store(artifacts).latest("demo-tiny")
    assert set(latest) == set(STEPS)
    pairs = pd.read_parquet(artifacts / "latest/demo-tiny/correspondence/pairs.parquet")
    assert len(pairs) > 0
    assert pairs["similarity"].between(-1.001, 1.001).all()
    results = json.loads(latest["evaluation"].file("results.json").read_text())
    assert {row["encoder"] for row in results} == {"random", "image_pretraining", "object_pretraining"}


def test_a_second_run_makes_nothing(first: Outcome, run: Callable[..., Outcome]) -> None:
    assert run() == {step: "Cached" for step in STEPS}


def test_one_field_makes_only_what_depends_on_it(first: Outcome, run: Callable[..., Outcome]) -> None:
    outcome = run("retrieval.neighbors=2", until="correspondence")
    assert {step for step, state in outcome.items() if state == "Completed"} == {"retrieval", "correspondence"}
    assert "object_pretraining" not in outcome
    again = run(until="correspondence")
    assert set(again.values()) == {"Cached"}, "the former versions are still there"


def test_a_forced_stage_is_made_again_and_ends_the_same(
    first: Outcome, run: Callable[..., Outcome], artifacts: Path
) -> None:
    _, _, plan = prepare("demo", tiny=True)
    before = Store(artifacts).find(plan.keys["retrieval"])
    assert before is not None
    outcome = run(until="correspondence", force=["retrieval"])
    assert [step for step, state in outcome.items() if state == "Completed"] == ["retrieval"]
    after = Store(artifacts).find(plan.keys["retrieval"])
    assert after is not None
    assert after.manifest["end"] > before.manifest["end"]
    assert after.manifest["files"] == before.manifest["files"], "same settings, same bytes"


def test_a_failure_says_why_and_stops_what_depends_on_it(run: Callable[..., Outcome], first: Outcome) -> None:
    outcome = run("retrieval.neighbors=500", until="correspondence")
    assert outcome["retrieval"] == "Failed"
    assert outcome["correspondence"] == "NotReady"
    assert "500" in outcome["flow"]
    assert "Traceback" not in outcome["flow"]


def test_a_wrong_request_fails_before_any_step(run: Callable[..., Outcome]) -> None:
    outcome = run("retrieval.neighbours=3")
    assert set(outcome) == {"flow"}
    assert "Did you mean neighbors" in outcome["flow"]
    assert "neither a stage nor a step" in run(until="retrival")["flow"]
