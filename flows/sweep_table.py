"""What a sweep ends in: a table of means over seeds for people, and every value of every run for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from flows.summary import RESULTS
from flows.sweep_runs import BASELINE, Figure, Row, Run, table_rows
from flows.terminal import console
from stages.config.sweep import Sweep

TABLE_FILE, RESULTS_FILE = "table.md", "results.json"


def write(folder: Path, name: str, sweep: Sweep, overrides: Sequence[str], runs: Sequence[Run]) -> None:
    """Writes `table.md` and `results.json` into `folder`, each replaced at once.

    results.json: what was asked for; `runs` (member, seed, outcome, reason, config, latest, encoders: name -> version);
    `figures` (encoder, protocol, figure, mean, std, seeds, values in their order, chance). std is null with one seed.
    """
    rows = table_rows(runs)
    content = sweep.model_dump(mode="json") | {"name": name, "overrides": overrides}
    content["runs"] = [
        {"member": run.member, "seed": run.seed, "outcome": run.outcome, "reason": run.reason,
         "config": run.config.name, "latest": run.name, "encoders": run.encoders()}
        for run in runs
    ]  # fmt: skip
    content["figures"] = [entry for row in rows for entry in _entries(row)]
    replace(folder / RESULTS_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    replace(folder / TABLE_FILE, _page(name, sweep, overrides, runs, rows))


def replace(path: Path, text: str) -> None:
    """Writes `text` to `path`: whole, or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    os.replace(draft, path)


def show(folder: Path, sweep: Sweep, runs: Sequence[Run]) -> None:
    """The table on the terminal."""
    rows = table_rows(runs)
    figures = _known(rows)
    table = Table(title=escape(sweep.title or folder.name), title_justify="left", title_style="bold")
    table.add_column("encoder", no_wrap=True)
    for column in ("seeds", *(RESULTS[figure] for figure in figures)):
        table.add_column(column, justify="right", overflow="fold")
    for line in _lines(rows, figures):
        table.add_row(*line)
    console.print()
    console.print(table)
    for note in _notes(runs):
        console.print(note, soft_wrap=True)
    if (folder / TABLE_FILE).is_file():
        console.print(f"{folder / TABLE_FILE} has every figure and the version of each encoder.", soft_wrap=True)


def _known(rows: Sequence[Row]) -> list[Figure]:
    """The figures worth a column that the evaluations have."""
    return [figure for figure in RESULTS if any(figure in row.values for row in rows)]


def _lines(rows: Sequence[Row], figures: Sequence[Figure]) -> list[list[str]]:
    guessing = ["chance", "", *(_number(_chance(rows, figure), percent=True) for figure in figures)]
    lines = [[row.label, f"{row.seeds} of {row.planned}", *(_cell(row, figure) for figure in figures)] for row in rows]
    return [guessing, *lines] if figures else lines


def _chance(rows: Sequence[Row], figure: Figure) -> float | None:
    return next(row.chance[figure] for row in rows if figure in row.chance)


def _cell(row: Row, figure: Figure) -> str:
    """Mean and spread; shares, which have a chance, in percent."""
    found = row.spread(figure)
    if found is None:
        return ""
    mean, deviation = found
    percent = row.chance[figure] is not None
    digits = 1 if percent or abs(mean) >= 10 else 3
    spread = "" if deviation is None else f" ± {_number(deviation, percent, digits)}"
    return _number(mean, percent, digits) + spread


def _number(value: float | None, percent: bool, digits: int = 1) -> str:
    return "" if value is None else f"{100 * value if percent else value:.{digits}f}"


def _notes(runs: Sequence[Run]) -> list[str]:
    seeds = len({run.seed for run in runs if run.outcome == "done"})
    if seeds == 0:
        spread = "No run has ended well."
    elif seeds == 1:
        spread = (
            "One seed: how far another one would move a figure is not known, so a gap between two members may be "
            "chance. `--seeds 0 1 2` gives a spread."
        )
    else:
        spread = "Mean ± standard deviation over seeds (n - 1 in its denominator); a row with one seed has none."
    notes = [f"{spread} Shares and mAP in percent."]
    missing = [f"{run.title} ({run.outcome})" for run in runs if run.outcome != "done"]
    if missing:
        notes.append(f"{len(missing)} of {len(runs)} runs are missing: {'; '.join(missing)}.")
    return notes


def _entries(row: Row) -> list[dict[str, Any]]:
    entries = []
    for (protocol, figure), by_seed in row.values.items():
        mean, deviation = row.spread((protocol, figure)) or (None, None)
        entries.append({"encoder": row.label, "protocol": protocol, "figure": figure, "mean": mean, "std": deviation,
                        "seeds": list(by_seed), "values": list(by_seed.values()),
                        "chance": row.chance[protocol, figure]})  # fmt: skip
    return entries


def _page(name: str, sweep: Sweep, overrides: Sequence[str], runs: Sequence[Run], rows: Sequence[Row]) -> str:
    figures = _known(rows)
    every = list(dict.fromkeys(figure for row in rows for figure in row.values))
    overridden = f" Overridden in all: {', '.join(f'`{each}`' for each in overrides)}." if overrides else ""
    parts = [
        f"# {sweep.title or name}",
        *([f"After {sweep.source}."] if sweep.source else []),
        _table(["encoder", "seeds", *(RESULTS[figure] for figure in figures)], _lines(rows, figures)),
        *_notes(runs),
        f"`{BASELINE}` is the network before training, as each seed makes it.",
        "## Members",
        f"All extend `{sweep.extends}` with {_changes(sweep.common)}.{overridden}",
        "\n".join(f"* **{member}**: {_changes(fields)}" for member, fields in sweep.members.items()),
        "## Runs",
        _table(["member", "seed", "outcome", "encoders", "reason"], [_account(run) for run in runs]),
        "## Every figure",
        _table(
            ["figure", *(row.label for row in rows)],
            [[": ".join(figure), *(_cell(row, figure) for row in rows)] for figure in every],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _changes(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={json.dumps(value)}`" for name, value in fields.items()) or "nothing changed"


def _account(run: Run) -> list[str]:
    encoders = ", ".join(f"{name} {version}" for name, version in run.encoders().items())
    reason = " ".join(run.reason.split()).replace("|", "\\|")
    return [run.member, str(run.seed), run.outcome, encoders, reason]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
