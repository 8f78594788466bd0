"""The outcome of one protocol for one encoder as files, and outcomes of several encoders put together.

outcome.json     figures with their meanings, values, settings and notes
resamples.npz    the bootstrap resamples of each value that has any, by the figure's name
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stages.evaluation.estimates import Estimate, Figure, Outcome

THIS = "this"  # the encoder in the outcome of a single one: what it is called is the user's matter, not the artifact's
OUTCOME_FILE, RESAMPLES_FILE = "outcome.json", "resamples.npz"


def save_outcome(outcome: Outcome, out: Path) -> None:
    """Writes the outcome of one encoder, which is called `THIS` in it."""
    estimates = {figure: by_encoder[THIS] for figure, by_encoder in outcome.values.items()}
    content = {
        "protocol": outcome.protocol,
        "data": outcome.data,
        "settings": outcome.settings,
        "figures": {name: asdict(figure) for name, figure in outcome.figures.items()},
        "values": {name: {"value": each.value, "chance": each.chance} for name, each in estimates.items()},
        "notes": outcome.notes,
    }
    (out / OUTCOME_FILE).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    resamples = {name: each.resamples for name, each in estimates.items() if each.resamples is not None}
    with (out / RESAMPLES_FILE).open("wb") as file:
        np.savez(file, **resamples)  # type: ignore[arg-type]  # names are those of figures


def load_outcome(directory: Path, encoder: str) -> Outcome:
    """What `save_outcome` wrote, the encoder now called `encoder`."""
    content = json.loads((directory / OUTCOME_FILE).read_text())
    with np.load(directory / RESAMPLES_FILE, allow_pickle=False) as resamples:
        values = {
            name: {encoder: Estimate(each["value"], each["chance"], resamples.get(name))}
            for name, each in content["values"].items()
        }
    figures = {name: Figure(**figure) for name, figure in content["figures"].items()}
    return Outcome(content["protocol"], content["data"], content["settings"], figures, values, content["notes"])


def merged(outcomes: Mapping[str, Outcome]) -> Outcome:
    """Outcomes of one protocol on one data set, by encoder, as one. Notes that all share are kept once."""
    first, *others = outcomes.values()
    values: dict[str, dict[str, Estimate]] = {}
    figures: dict[str, Figure] = {}
    for outcome in outcomes.values():
        figures |= outcome.figures
        for figure, by_encoder in outcome.values.items():
            values.setdefault(figure, {}).update(by_encoder)
    shared = [note for note in first.notes if all(note in other.notes for other in others)]
    notes = shared + [
        f"{name}: {note}" for name, outcome in outcomes.items() for note in outcome.notes if note not in shared
    ]
    return Outcome(first.protocol, first.data, first.settings, figures, values, notes)
