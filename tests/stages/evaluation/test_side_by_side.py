"""Our figures beside published ones: the table, its warning, and the plot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.evaluation.side_by_side import compare, draw_side_by_side, side_by_side


@pytest.fixture
def svm() -> Outcome:
    resamples = np.linspace(0.80, 0.82, 200)
    return Outcome(
        protocol="linear_svm",
        data="0123456789ab",
        settings={"costs": [1.0]},
        figures={"map": Figure("linear SVM mAP", "Mean over classes.", metric="svm_map")},
        values={"map": {"mine": Estimate(0.81, 0.05, resamples), "random": Estimate(0.305, 0.05)}},
    )


def test_the_table_has_ours_first_and_the_papers_with_their_source(svm: Outcome) -> None:
    text = side_by_side(compare([svm], "voc07"), photos=4952)
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| **mine**"))
    assert "**81.0** [80.1, 81.9]" in lines[first]
    assert "**30.5**" in lines[first + 1]
    orl = next(line for line in lines if line.startswith("| ORL | COCO | 800 |"))
    assert "| 86.7 |" in orl
    assert "table 1" in orl
    assert "Not comparable" not in text
    assert {line.count("|") for line in lines if line.startswith("|")} == {7}


def test_fewer_photos_than_the_papers_is_said(svm: Outcome) -> None:
    text = side_by_side(compare([svm], "voc07"), photos=24)
    assert "**Not comparable:** ours are measured on 24 photos" in text
    assert "4,952" in text


def test_protocols_without_published_figures_are_left_out(svm: Outcome) -> None:
    assert compare([svm], "nyu") == []
    assert side_by_side([], photos=1) == ""


def test_only_figures_that_the_papers_have_are_compared() -> None:
    figures = {name: Figure(name, name, percent=name == "pct_1") for name in ("pct_1", "rms", "ours_alone")}
    values = {name: {"mine": Estimate(0.5)} for name in figures}
    values["rms"]["another"] = Estimate(0.25)  # of which the shares are not known
    outcome = Outcome("depth", "data", {}, figures, values)
    (comparison,) = compare([outcome], "nyu")
    assert comparison.figures == ["pct_1", "rms"]
    text = side_by_side([comparison], photos=654)
    assert "| **mine** |  |  |  | **50.0** | **0.500** |" in text
    assert "| **another** |  |  |  |  | **0.250** |" in text
    assert "| 84.6 | 0.541 |" in text


def test_the_plot_has_a_bar_a_row(svm: Outcome, tmp_path: Path) -> None:
    comparisons = compare([svm], "voc07")
    draw_side_by_side(comparisons, tmp_path / "side_by_side.png")
    rows = sum(1 for _ in comparisons[0].published) + 2
    with Image.open(tmp_path / "side_by_side.png") as plot:
        assert plot.height > 0.2 * 110 * rows
