"""The table of a sweep: what it averages, which encoders it takes for the same, and what it says of gaps."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from flows.sweep_runs import Run, table_rows
from flows.sweep_table import write
from stages.config.sweep import Sweep
from stages.config.tree import Config
from stages.planning import make_plan

MAP, RANK = ("linear_svm", "map"), ("spread", "effective_rank")
SWEEP = Sweep.model_validate({"extends": "base.yaml", "seeds": [0, 1], "members": {"a": None, "b": None}})


def run(member: str, seed: int, values: dict[str, float] | None = None, **stages: dict[str, Any]) -> Run:
    """A run of a real plan. `values`: encoder -> what the evaluation says, for all figures; None: not done."""
    tree = {"dataset": {"format": "folder", "root": "photos"}, "run": {"seed": seed}, **stages}
    plan = make_plan(Config.model_validate(tree), lambda dataset: "abc", Path("hashes.npy"))
    results = [
        {"encoder": encoder, "protocol": protocol, "figure": figure, "value": value, "chance": chance}
        for encoder, value in (values or {}).items()
        for (protocol, figure), chance in ((MAP, 0.25), (RANK, None))
    ]
    outcome = "waiting" if values is None else "done"
    return Run(member, seed, f"x-{member}-seed{seed}", Path("x.yaml"), plan, outcome, results=results)


def means(runs: list[Run]) -> dict[str, Any]:
    return {row.label: row.spread(MAP) for row in table_rows(runs)}


def measured(first: float, last: float) -> dict[str, float]:
    return {"random": 0.1, "image_pretraining": first, "object_pretraining": last}


def test_mean_and_standard_deviation_over_seeds() -> None:
    runs = [run("a", seed, measured(0.3, value)) for seed, value in enumerate((0.5, 0.6, 0.9))]
    mean, deviation = means(runs)["a"]
    assert mean == pytest.approx(2 / 3)
    assert deviation == pytest.approx(statistics.stdev([0.5, 0.6, 0.9]))


def test_encoders_that_members_have_in_common_have_one_row() -> None:
    weights = {"object_pretraining": {"orl": {"weight_intra": 0.5}}}
    runs = [run("a", 0, measured(0.3, 0.5)), run("b", 0, measured(0.3, 0.6), **weights)]
    runs += [run("a", 1, measured(0.4, 0.5)), run("b", 1, **weights)]
    found = means(runs)
    assert list(found) == ["random", "image_pretraining", "a", "b"]
    assert found["image_pretraining"][0] == pytest.approx(0.35)
    assert found["b"] == (0.6, None), "one of its seeds is missing, and one has no spread"


def test_different_encoders_of_one_stage_are_told_apart() -> None:
    simclr = {"image_pretraining": {"method": "simclr"}}
    runs = [run("a", 0, measured(0.3, 0.5)), run("b", 0, measured(0.4, 0.6), **simclr)]
    found = means(runs)
    assert found["image_pretraining of a"] == (0.3, None)
    assert found["image_pretraining of b"] == (0.4, None)
    assert "random of b" in found, "SimCLR's projector is another: its untrained network, too"


def test_the_page_says_what_is_missing_and_that_one_seed_has_no_spread(tmp_path: Path) -> None:
    runs = [run("a", 0, measured(0.3, 0.5)), run("b", 0)]
    runs[1].outcome, runs[1].reason = "failed", "too | few\nphotos"
    write(tmp_path, "x", SWEEP, ["run.device=cpu"], runs)
    page = (tmp_path / "table.md").read_text()
    assert "One seed: how far another one would move a figure is not known" in page
    assert "| a | 1 of 1 | 50.0 | 0.500 |" in page
    assert "| chance |  | 25.0 |  |" in page
    assert "1 of 2 runs are missing: b, seed 0 (failed)." in page
    assert "too \\| few photos" in page
    assert runs[0].plan.keys["object_pretraining"].version in page
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["results.json", "table.md"]


def test_results_hold_every_value_with_its_seed(tmp_path: Path) -> None:
    write(tmp_path, "x", SWEEP, [], [run("a", seed, measured(0.3, 0.5 + seed)) for seed in (0, 1)])
    results = json.loads((tmp_path / "results.json").read_text())
    entry = next(e for e in results["figures"] if e["encoder"] == "a" and e["figure"] == "map")
    assert (entry["mean"], entry["seeds"], entry["values"], entry["chance"]) == (1.0, [0, 1], [0.5, 1.5], 0.25)
    assert results["runs"][1]["encoders"].keys() == {"image_pretraining", "object_pretraining"}
