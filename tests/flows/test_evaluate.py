"""`orl evaluate` on the labelled scenes: real steps, and nothing made twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.test_pipeline import Outcome, task_states

# Two minutes, nearly all of them the start of processes; tests/stages/test_suite_planning.py has what is shared.
pytestmark = [pytest.mark.flow, pytest.mark.slow]

ENCODERS = ["small=random:conv4", "random:resnet10t"]


@pytest.fixture(scope="module")
def evaluate(prefect_server: None, artifacts: Path) -> Callable[..., Outcome]:
    """Runs the flow on the rehearsal of `scenes` and returns the name of each task's final state."""
    from flows.evaluate import orl_evaluation

    def outcome(encoders: list[str], protocols: list[str], out: Path, *overrides: str) -> Outcome:
        state = orl_evaluation(
            encoders, "scenes", protocols, list(overrides), None, True, str(out), return_state=True
        )  # fmt: skip
        outcomes = task_states(state.state_details.flow_run_id)
        return outcomes | ({"flow": f"{state.name}: {state.message}"} if state.is_failed() else {})

    return outcome


def test_a_second_protocol_embeds_nothing_again(evaluate: Callable[..., Outcome], tmp_path: Path) -> None:
    first = evaluate(ENCODERS[:1], ["knn"], tmp_path, "activation_maps=null")
    assert set(first.values()) == {"Completed"}
    second = evaluate(ENCODERS, ["knn", "retrieval_map"], tmp_path, "activation_maps=null")
    cached = {name for name, state in second.items() if state == "Cached"}
    assert cached >= {"catalog_train", "catalog_test", "features_train.small", "features_test.small", "knn.small"}
    assert {name for name in second if name not in cached} == {
        "features_train.random-resnet10t", "features_test.random-resnet10t", "knn.random-resnet10t",
        "retrieval_map.small", "retrieval_map.random-resnet10t",
    }  # fmt: skip

    rows = json.loads((tmp_path / "results.json").read_text())
    assert {(row["protocol"], row["encoder"]) for row in rows} == {
        (protocol, encoder) for protocol in ("knn", "retrieval_map") for encoder in ("small", "random:resnet10t")
    }
    report = (tmp_path / "report.md").read_text()
    assert "| small |" in report
    assert "small - random:resnet10t" in report
    assert (tmp_path / "comparison.png").is_file()


def test_what_fails_is_said(evaluate: Callable[..., Outcome], tmp_path: Path) -> None:
    assert "neighbors" in evaluate(ENCODERS[:1], ["knn"], tmp_path, "knn.neighbors=[5000]")["flow"]
    assert "no protocol kn" in evaluate(ENCODERS[:1], ["kn"], tmp_path)["flow"]
    assert "called 'small'" in evaluate(["small=random:conv4", "small=random:resnet18"], ["knn"], tmp_path)["flow"]
