"""quality.md: what was found, for people. Everything above the mark at its end is written anew with every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.methods import METHODS
from stages.evaluation.embeddings import RANDOM

# What stands below it in the file is kept: what was tried, in words.
MARK = "<!-- Below this line: written by hand, kept by the script. -->"

_COLUMNS = {
    "svm_map": "linear SVM mAP",
    "same_class": "same-class share",
    "same_class_macro": "the same, mean of classes",
    "view_rank": "view rank",
}
_CHOSEN = "svm_map", "same_class"  # that are asked for the papers' order
_READING = """\
* Every encoder is frozen and measured with the global average of its last feature map. `random` is the same network
  before training.
* *Linear SVM mAP*: photos of the test split, a classifier a class (`stages/evaluation/linear_svm.py`).
  *Same-class share*: labelled objects of the test photos whose most similar object in another photo has their class:
  what the mining of pairs by this encoder would reach if its proposals were the labelled boxes.
  *View rank*: see docs/demo.md; it is near to what pretraining trains for and no proof of knowledge.
* Means over the seeds, in percent, with the standard deviation between seeds in parentheses. A seed changes the
  weights, the views, the order of the photos, and the random network.
* All start from random weights and see the same number of photos. ORL's pairs are mined with the BYOL encoder of the
  same seed, whose training is not counted. ORL's six views of a photo have {orl_pixels:.2f} times the pixels of the
  others' two.
* *above* or *below*: all seeds agree, and their mean is more than two standard errors. Else the order is *unclear*."""


def write_report(report: Mapping[str, Any], plots: Mapping[str, Path], path: Path) -> None:
    """report: what the last line of the benchmark holds. plots: of the curves, by data set, beside `path`."""
    kept = path.read_text().partition(MARK)[2] if path.is_file() else "\n"
    where = report["machine"]
    place = where["gpu"] or f"{where['cpu']}, {where['cores']} cores"
    parts = [
        "# Does it learn?",
        f"`{report['command']}` on {where['date']}, {place}, PyTorch {where['versions']['torch']}, "
        f"{report['minutes']:.0f} minutes in the last call. Network `{report['backbone']}` at {report['size']} pixels.",
    ]
    for name, found in report["data_sets"].items():
        parts += [f"## {name}", _facts(found), _table(found), f"![curves]({plots[name].name})", _orders(found),
                  _regions(found)]  # fmt: skip
    parts += ["## How to read it", _READING.format(orl_pixels=report["orl_pixels"]), MARK]
    path.write_text("\n\n".join(part for part in parts if part) + kept)


def _facts(found: Mapping[str, Any]) -> str:
    seeds = ", ".join(map(str, found["seeds"]))
    return (
        f"{found['length']}: {found['steps']} steps, {found['images_seen']:,} photos seen, in {found['precision']}; "
        f"seeds {seeds}."
    )


def _table(found: Mapping[str, Any]) -> str:
    names = [name for name in (RANDOM, *METHODS) if name in found["values"]["svm_map"]]
    rows = [["encoder", "on", *_COLUMNS.values()], ["---", "---", *["---:"] * len(_COLUMNS)]]
    best = {figure: max(found["mean"][figure].values()) for figure in _COLUMNS}
    for name in names:
        method = METHODS.get(name)
        base = METHODS[method.base].title if method and method.base else ""
        cells = []
        for figure in _COLUMNS:
            value, spread = found["mean"][figure][name], found["stdev"][figure][name]
            text = f"{100 * value:.1f}"
            cells.append(f"{f'**{text}**' if value == best[figure] else text} ({100 * spread:.1f})")
        rows.append([method.title if method else RANDOM, base, *cells])
    chances = ("" if found["chance"][figure] is None else f"{100 * found['chance'][figure]:.1f}" for figure in _COLUMNS)
    rows.append(["chance", "", *chances])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _orders(found: Mapping[str, Any]) -> str:
    """Whether the papers' order shows: object-level above the image-level method that it starts from."""
    compared = [name for name in METHODS if name in found["gains"][_CHOSEN[0]]]
    if not compared:
        return ""
    rows = [["object-level minus base", *(f"{_COLUMNS[figure]}, by seed" for figure in _CHOSEN)]]
    rows.append(["---"] * len(rows[0]))
    for name in compared:
        cells = []
        for figure in _CHOSEN:
            gain = found["gains"][figure][name]
            points = ", ".join(f"{100 * difference:+.1f}" for difference in gain["differences"])
            cells.append(f"{100 * gain['mean']:+.1f} ({points}): **{gain['order']}**")
        rows.append([f"{METHODS[name].title} - {METHODS[gain['base']].title}", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _regions(found: Mapping[str, Any]) -> str:
    names = {"regions": "Boxes that ORL and object crops use", "masks": "Masks that DetCon uses",
             "correspondence": "Mined pairs (BYOL's features)"}  # fmt: skip
    lines = [
        f"* {names[step]}: " + ", ".join(f"{figure} {100 * value:.1f} %" for figure, value in figures.items()) + "."
        for step, figures in found["regions"].items()
        if step in names
    ]
    return "\n".join(["Against the labels:", "", *lines]) if lines else ""


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """For the terminal."""
    return "\n\n".join(_plain(f"{name}, {each['length']}", _table(each)) for name, each in found.items())


def _plain(title: str, markdown: str) -> str:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join([title, *(_padded(row, widths) for row in rows if row[0] != "---")])


def _padded(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
