"""Figures that papers and official repositories have published, looked up by data set and protocol.

They are the YAML files beside this one, a table of a source each; sources.yaml explains them.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent
_FILES = ("classification", "detection", "segmentation_and_depth", "discovery")
_ABOUT = {"method", "pretraining", "epochs", "backbone"}


@dataclass(frozen=True)
class Source:
    """A paper or repository: how to cite it, and where it is."""

    cite: str
    url: str


@dataclass(frozen=True)
class DataSet:
    """A labelled data set: its title, and the part that figures are measured on, with the number of its photos."""

    title: str
    test: str
    photos: int | None


@dataclass(frozen=True)
class Row:
    """One pretrained network and its figures, as printed: shares in percent, errors as they are.

    Attributes:
        pretraining: the data it was pretrained on; "none" for random weights.
        epochs: of the pretraining, where the source says.
    """

    method: str
    pretraining: str
    epochs: int | None
    backbone: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """The figures of one source for one protocol on one data set.

    Attributes:
        place: where in the source, such as "table 4".
        settings: what distinguishes it from other tables of that data and protocol, by our protocol's settings; a list
            holds all that will do.
        how: the network and training of the protocol, in words.
    """

    source: Source
    place: str
    data: str
    protocol: str
    how: str
    rows: tuple[Row, ...]
    settings: Mapping[str, Any]


def published_tables(data: str, protocol: str, settings: Mapping[str, Any]) -> list[Table]:
    """The published tables for `protocol` on `data`.

    Args:
        data: a key of `data_sets()`.
        settings: of our run. Tables for other settings are left out: a frozen backbone is not put beside fine-tuned
            ones.

    Raises:
        ValueError: there is no such data set.
    """
    if data not in data_sets():
        close = difflib.get_close_matches(data, data_sets(), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(
            f"there are no published figures for a data set '{data}'.{hint} Choose one of {', '.join(data_sets())}."
        )
    return [
        table
        for table in _tables()
        if (table.data, table.protocol) == (data, protocol)
        and all(_will_do(settings[name], wanted) for name, wanted in table.settings.items() if name in settings)
    ]


def _will_do(ours: Any, wanted: Any) -> bool:
    return ours in wanted if isinstance(wanted, list) else ours == wanted


@functools.cache
def data_sets() -> dict[str, DataSet]:
    """The data sets that there are published figures for, by the key they are looked up by."""
    return {key: DataSet(**about) for key, about in _read("sources")["data_sets"].items()}


@functools.cache
def _tables() -> tuple[Table, ...]:
    sources = {key: Source(**about) for key, about in _read("sources")["sources"].items()}
    return tuple(_table(sources, entry) for name in _FILES for entry in _read(name))


def _read(name: str) -> Any:
    return yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def _table(sources: Mapping[str, Source], entry: dict[str, Any]) -> Table:
    rows = tuple(_rows(entry.pop("columns"), entry.pop("rows")))
    return Table(**{"settings": {}} | entry | {"source": sources[entry["source"]], "rows": rows})


def _rows(columns: list[str], lines: list[list[Any]]) -> Iterator[Row]:
    for line in lines:
        cells = dict(zip(columns, line, strict=True))
        about = {"backbone": "ResNet-50"} | {name: cells[name] for name in columns if name in _ABOUT}
        figures = {name: float(cell) for name, cell in cells.items() if name not in _ABOUT and cell is not None}
        yield Row(**about, figures=figures)
