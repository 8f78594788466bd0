"""The report of `orl evaluate`: encoders side by side, and beside them what the papers have published."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.evaluation.activation_maps import PICTURE_FILE
from stages.evaluation.estimates import Outcome
from stages.evaluation.plot import draw_comparison
from stages.evaluation.results import BRACKETS, write_report, write_results
from stages.evaluation.side_by_side import compare, draw_side_by_side, side_by_side

_READING = f"""\
{BRACKETS}* A network whose name begins with `random` is untrained: what it reaches, architecture and pixels reach
  alone. `chance` is guessing. A trained encoder is worth something by what it adds to the untrained one.
* Each protocol is an artifact of its own; `results.json` has every figure with its protocol, data, settings and seed.
"""


def write_suite_report(
    outcomes: Sequence[Outcome],
    out: Path,
    *,
    title: str,
    source: str | None,
    published: str | None,
    photos: int,
    seed: int,
    activation_maps: Path | None = None,
) -> Path:
    """Writes `results.json`, `report.md`, `comparison.png` and, where there are published figures, `published.png`.

    Args:
        outcomes: one a protocol, of all encoders (`saved.merged`).
        title, source: of the suite.
        published: data set whose published figures stand beside ours; None: there are none.
        photos: number of test photos.
        activation_maps: artifact of the step of that name, whose picture is shown too.

    Returns:
        The report.
    """
    encoders = list(dict.fromkeys(name for each in outcomes for by in each.values.values() for name in by))
    write_results(outcomes, seed, out / "results.json")
    draw_comparison(outcomes, encoders, out / "comparison.png")
    further: list[str] = []
    comparisons = compare(outcomes, published) if published is not None else []
    if comparisons:
        draw_side_by_side(comparisons, out / "published.png")
        further = ["## Beside published figures", "![published](published.png)",
                   side_by_side(comparisons, photos)]  # fmt: skip
    if activation_maps is not None:
        shutil.copyfile(activation_maps / PICTURE_FILE, out / PICTURE_FILE)
        further += ["## Where they look", f"![activation maps]({PICTURE_FILE})"]
    report = out / "report.md"
    words = f"{title}." if source is None else f"{title}, as in {source}."
    write_report(outcomes, encoders, seed, report, intro=words, reading=_READING, further=further)
    return report
