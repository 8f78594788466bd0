"""The published figures: well-formed, and those of the papers at hand really stand there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from stages.evaluation import published
from stages.evaluation.metrics import best_overlap
from stages.evaluation.protocols import depth, detection, fine_tuning, segmentation
from stages.evaluation.published import data_sets, published_tables
from stages.evaluation.tasks import classification

# Source, by the title of its citation -> text of the paper.
_PAPERS = {
    "Xie et al. 2021, ORL": "orl.txt",
    "Hénaff et al. 2021, DetCon": "detcon.txt",
    "Mishra et al. 2021, object-aware cropping": "object_aware_cropping.txt",
    "Hénaff 2022, slides on DetCon, Odin and VITO": "virtuous_cycle_talk_detcon_odin_vito.txt",
}
# The text of the paper has lost the decimal point here: 364 584.
_ILLEGIBLE = {(36.4, 58.4)}


def test_every_table_is_of_a_known_data_set_and_every_row_has_figures() -> None:
    for table in published._tables():
        assert table.data in data_sets()
        assert table.source.url.startswith("https://")
        assert table.how
        for row in table.rows:
            assert row.figures, (table.source.cite, table.place, row)
            assert all(0 < value < 100 for value in row.figures.values())


def test_no_table_has_a_row_twice() -> None:
    for table in published._tables():
        rows = [(row.method, row.pretraining, row.epochs, row.backbone) for row in table.rows]
        assert len(rows) == len(set(rows)), (table.source.cite, table.place)


def test_figures_of_the_papers_stand_in_one_line_of_their_text(shared_data: Path) -> None:
    papers = shared_data.parent / "papers"
    if not papers.is_dir():
        pytest.skip("needs the texts of the papers beside the labelled photos")
    lines = {
        cite: [set(re.findall(r"\d+\.\d+", line)) for line in (papers / name).read_text("utf-8").splitlines()]
        for cite, name in _PAPERS.items()
    }
    checked = 0
    for table in published._tables():
        for row in table.rows if table.source.cite in _PAPERS else ():
            legible = [value for value in row.figures.values() if not any(value in each for each in _ILLEGIBLE)]
            wanted = {f"{value:.1f}" for value in legible}
            assert any(wanted <= line for line in lines[table.source.cite]), (table.source.cite, table.place, row)
            checked += 1
    assert checked > 200


def test_tables_for_other_settings_are_left_out() -> None:
    fpn = {"architecture": "fpn", "masks": True}
    fine_tuned = published_tables("coco", "detection", fpn | {"frozen": False})
    frozen = published_tables("coco", "detection", fpn | {"frozen": True})
    assert {table.source.cite for table in frozen} == {"Hénaff et al. 2021, DetCon"}
    assert not set(map(id, fine_tuned)) & set(map(id, frozen))
    c4 = published_tables("coco", "detection", fpn | {"architecture": "c4"})
    assert {table.source.cite for table in c4} == {"Xie et al. 2021, PixPro, README"}
    unknown = published_tables("coco", "detection", {})  # nothing is said: nothing is left out
    assert len(unknown) > len(fine_tuned) + len(frozen) + len(c4)


def test_the_headline_of_orl_is_found() -> None:
    rows = [row for table in published_tables("voc07", "linear_svm", {}) for row in table.rows]
    assert {
        row.figures["map"] for row in rows if (row.method, row.pretraining, row.epochs) == ("ORL", "COCO", 800)
    } == {86.7}


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'voc7'.*Did you mean voc07"):
        published_tables("voc7", "linear_svm", {})


def test_tables_speak_of_figures_and_settings_by_the_names_of_our_protocols() -> None:
    figures = {
        "linear_svm": {"map"},
        "low_shot_svm": {f"map k={k}" for k in (1, 2, 4, 8, 16, 32, 64, 96)},
        "linear_probe": set(classification.FIGURES),
        "fine_tuning": set(classification.FIGURES),
        "detection": {f"{kind}_{name}" for kind in ("box", "mask") for name in ("ap", "ap50", "ap75")},
        "segmentation": set(segmentation.FIGURES),
        "depth": set(depth.FIGURES),
        "discovery": set(best_overlap.figures(["abo_i", "abo_c", "recovery", "corloc"], ["k4"], "clusters")),
    }
    settings = {"detection": inspect.signature(detection.run), "fine_tuning": inspect.signature(fine_tuning.run)}
    for table in published._tables():
        assert {name for row in table.rows for name in row.figures} <= figures[table.protocol]
        assert not table.settings or set(table.settings) <= settings[table.protocol].parameters.keys()
