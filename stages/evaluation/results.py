"""What evaluation leaves behind in words and numbers: results.json for machines, report.md for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from stages.evaluation.embeddings import RANDOM
from stages.evaluation.estimates import RESAMPLES, Estimate, Figure, Outcome

BRACKETS = f"""\
* Brackets are 95 % bootstrap intervals over the photos measured on ({RESAMPLES} resamples). They say how far a figure
  would move with other photos, not with another training. Untrained networks that differ in their seed alone can
  already differ by more than such an interval: train with several seeds before you trust a small gap.
* All encoders see the same pictures, so compare two of them by the interval of their difference below, not by whether
  their own intervals overlap. A difference whose interval contains 0 is no difference yet, and one in twenty
  excludes 0 by luck.
"""
READING = f"""\
{BRACKETS}* `random` is the same network before training: what it reaches, architecture and pixels reach alone.
  `chance` is guessing. A trained encoder is worth something by what it adds to `random`, not to `chance`.
* View retrieval is close to what pretraining trains for, so it shows that training works. It is no proof that
  the encoder knows objects; the SVM and the same-class share need labels for that reason.
* Figures depend on the data set, the size of the pictures and the costs below. Compare them within one report. They are
  not those of the papers' tables, which use VOC2007, larger pictures and other pooling.
"""


def write_results(outcomes: Sequence[Outcome], seed: int, path: Path) -> None:
    """A JSON list, one object a figure and encoder: encoder, protocol, figure, value, low, high, chance, data, seed,
    settings. `low` and `high` bound the 95 % interval; they and `chance` are null where there is none."""
    rows = [
        _row(outcome, figure, encoder, estimate, seed)
        for outcome in outcomes
        for figure, by_encoder in outcome.values.items()
        for encoder, estimate in by_encoder.items()
    ]
    path.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")


def flat_metrics(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The figures that matter most as `encoder.metric`, such as `object_pretraining.view_retrieval`."""
    return {
        f"{encoder}.{figure.metric}": estimate.value
        for outcome in outcomes
        for key, figure in outcome.figures.items()
        if figure.metric is not None
        for encoder, estimate in outcome.values[key].items()
    }


def write_report(
    outcomes: Sequence[Outcome],
    encoders: Sequence[str],
    seed: int,
    path: Path,
    *,
    intro: str = "Frozen encoders, nothing is fine-tuned.",
    reading: str = READING,
    further: Sequence[str] = (),
) -> None:
    """`report.md`: the table of figures, the differences of encoders, meanings, settings, and how to read them.

    Args:
        intro: what was done with the encoders. reading: a list of advice.
        further: sections that come after the table of figures.
    """
    sections = [
        "# Evaluation",
        f"{intro} Shares and mAP in percent; the best of a row is bold.",
        "![comparison](comparison.png)",
        _figures(outcomes, encoders),
        *_alarms(outcomes),
        *further,
        *_difference_sections(outcomes, encoders),
        "## What the figures mean",
        "\n".join(
            f"* **{figure.title}**: {figure.meaning}" for outcome in outcomes for figure in outcome.figures.values()
        ),
        "## How to read them",
        reading.rstrip(),
        "## Settings",
        _settings(outcomes, seed),
    ]
    details = _by_class(outcomes, encoders)
    if details:
        sections += ["## Average precision by class", details]
    path.write_text("\n\n".join(sections) + "\n")


def _row(outcome: Outcome, figure: str, encoder: str, estimate: Estimate, seed: int) -> dict[str, Any]:
    low, high = estimate.interval or (None, None)
    return {
        "encoder": encoder,
        "protocol": outcome.protocol,
        "figure": figure,
        "value": estimate.value,
        "low": low,
        "high": high,
        "chance": estimate.chance,
        "data": outcome.data,
        "seed": seed,
        "settings": outcome.settings,
    }


def _figures(outcomes: Sequence[Outcome], encoders: Sequence[str]) -> str:
    rows = []
    for outcome in outcomes:
        for key, figure in outcome.figures.items():
            estimates = outcome.values[key]
            best = max(e.value for e in estimates.values()) if figure.ranked and len(estimates) > 1 else None
            cells = [_cell(figure, estimates.get(name), best) for name in encoders]
            rows.append([figure.title, *cells, _chance(figure, estimates)])
    return _table(["figure", *encoders, "chance"], rows)


def _chance(figure: Figure, estimates: Mapping[str, Estimate]) -> str:
    chance = next(iter(estimates.values())).chance
    return "" if chance is None else number(figure, chance)


def number(figure: Figure, value: float) -> str:
    """`value` as tables and plots show it."""
    if figure.percent:
        return f"{100 * value:.1f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}".removesuffix(".000")


def _cell(figure: Figure, estimate: Estimate | None, best: float | None = None) -> str:
    """The value and its interval; bold where it is the `best`, empty where an encoder has no such figure."""
    if estimate is None:
        return ""
    text = number(figure, estimate.value)
    if estimate.value == best:
        text = f"**{text}**"
    if estimate.interval is not None:
        low, high = estimate.interval
        text += f" [{number(figure, low)}, {number(figure, high)}]"
    return text


def _difference_sections(outcomes: Sequence[Outcome], encoders: Sequence[str]) -> list[str]:
    trained = [name for name in encoders if not untrained(name)]
    baseline = next((name for name in encoders if untrained(name)), None)
    pairs = [(later, earlier) for earlier, later in combinations(trained, 2)]
    pairs += [] if baseline is None else [(name, baseline) for name in trained]
    if not pairs:
        return []
    rows = []
    for outcome in outcomes:
        for key, figure in outcome.figures.items():
            if figure.ranked:
                estimates = outcome.values[key]
                cells = [
                    _difference(figure, estimates[a].minus(estimates[b])) if a in estimates and b in estimates else ""
                    for a, b in pairs
                ]
                if any(cells):
                    rows.append([figure.title, *cells])
    words = "First minus second, in points, with the interval of the difference. Bold: the interval excludes 0."
    return ["## Differences", words, _table(["figure", *(f"{a} - {b}" for a, b in pairs)], rows)]


def _difference(figure: Figure, difference: Estimate) -> str:
    text = f"{100 * difference.value if figure.percent else difference.value:+.1f}"
    if difference.interval is None:
        return text
    low, high = difference.interval
    return f"{f'**{text}**' if low > 0 or high < 0 else text} [{number(figure, low)}, {number(figure, high)}]"


def untrained(encoder: str) -> bool:
    """Whether `encoder` is the name of an untrained network: "random", "random (NAME)" or "random:BACKBONE"."""
    return encoder == RANDOM or encoder.startswith((f"{RANDOM} (", f"{RANDOM}:"))


def _alarms(outcomes: Sequence[Outcome]) -> list[str]:
    collapsed = [
        name
        for outcome in outcomes
        for name, estimate in outcome.values.get("collapsed", {}).items()
        if estimate.value and not untrained(name)
    ]
    if not collapsed:
        return []
    return [f"**Collapsed: {', '.join(collapsed)}.** Nearly all photos have one embedding; look at the training's log."]


def _settings(outcomes: Sequence[Outcome], seed: int) -> str:
    lines = [f"* seed: {seed}"]
    for outcome in outcomes:
        settings = ", ".join(f"{name} {_short(value)}" for name, value in outcome.settings.items())
        lines.append(f"* {outcome.protocol} on catalog `{outcome.data}`: {settings}.")
        lines += [f"  {note}" for note in outcome.notes]
    return "\n".join(lines)


def _short(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return " ".join(f"{item:.3g}" if isinstance(item, float) else str(item) for item in value) or "none"


def _by_class(outcomes: Sequence[Outcome], encoders: Sequence[str]) -> str:
    ap = Figure("", "")
    rows = []
    for outcome in outcomes:
        for key, estimates in outcome.values.items():
            if key not in outcome.figures:
                cells = [_cell(ap, estimates.get(name)) for name in encoders]
                rows.append([key.removeprefix("ap "), *cells, _chance(ap, estimates)])
    return _table(["class", *encoders, "chance"], rows) if rows else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
