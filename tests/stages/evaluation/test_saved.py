"""Outcomes as files, and several encoders' outcomes as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.evaluation.saved import THIS, load_outcome, merged, save_outcome

FIGURES = {"map": Figure("mAP", "Mean over classes.", metric="map")}


def outcome(value: float, notes: list[str]) -> Outcome:
    resamples = np.linspace(0, 1, 5)
    values = {"map": {THIS: Estimate(value, 0.1, resamples)}, "ap cat": {THIS: Estimate(value / 2)}}
    return Outcome("svm", "abc", {"costs": [1, 2]}, FIGURES, values, notes)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    saved = outcome(0.4, ["a note"])
    save_outcome(saved, tmp_path)
    loaded = load_outcome(tmp_path, "mine")
    assert loaded.figures == FIGURES
    assert (loaded.protocol, loaded.data, loaded.settings, loaded.notes) == (
        "svm",
        "abc",
        {"costs": [1, 2]},
        ["a note"],
    )
    assert loaded.values["map"]["mine"] == saved.values["map"][THIS]
    np.testing.assert_array_equal(np.asarray(loaded.values["map"]["mine"].resamples), np.linspace(0, 1, 5))
    assert loaded.values["ap cat"]["mine"].resamples is None


def test_encoders_stand_side_by_side_and_shared_notes_once(tmp_path: Path) -> None:
    both = {}
    for name, value, notes in (("a", 0.4, ["shared", "cost 1"]), ("b", 0.6, ["shared", "cost 2"])):
        folder = tmp_path / name
        folder.mkdir()
        save_outcome(outcome(value, notes), folder)
        both[name] = load_outcome(folder, name)
    together = merged(both)
    assert {name: each.value for name, each in together.values["map"].items()} == {"a": 0.4, "b": 0.6}
    assert together.notes == ["shared", "a: cost 1", "b: cost 2"]
    assert together.values["map"]["a"].minus(together.values["map"]["b"]).interval == pytest.approx((-0.2, -0.2))
