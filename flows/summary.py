"""The end of a run: what was made, what it is worth, where to look."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from prefect.states import State
from rich.table import Table

from flows.terminal import console
from stages.store import Artifact

# The figures of each step that are worth a place in the table: metric and its words.
_KEY_FIGURES = {
    "demo_photos": (("photos", "{:,} photos"),),
    "scenes": (("objects", "{:,} labelled objects"),),
    "catalog": (("images", "{:,} photos"), ("rejected", "{:,} rejected")),
    "image_pretraining": (("steps", "{:,} steps"), ("loss", "loss {:.2f}")),
    "retrieval": (("nearest_similarity", "nearest neighbour {:.2f} similar"),),
    "regions": (
        ("boxes", "{:,} boxes"),
        ("fallback_images", "{:,} photos without one"),
        ("recall_all", "recall of objects {:.2f}"),
    ),
    "masks": (("regions_per_image", "{:.0f} regions a photo"), ("bytes_per_image", "{:,.0f} bytes a photo")),
    "roi_features": (("boxes", "{:,} RoIs"),),
    "correspondence": (
        ("pairs", "{:,} pairs"),
        ("similarity_mean", "{:.2f} similar"),
        ("same_class_iou", "{:.1%} on one class"),
    ),
    "import_neighbors": (("own_neighbors", "{:,} photos that are their own neighbours"),),
    "import_regions": (("boxes", "{:,} boxes"), ("fallback_images", "{:,} photos without one")),
    "import_correspondence": (("pairs", "{:,} pairs"),),
    "object_pretraining": (("steps", "{:,} steps"), ("loss", "loss {:.2f}")),
}

# What an evaluation is summed up by; the report has the rest. The first is the figure that short trainings move.
RESULTS = {
    ("view_retrieval", "rank"): "view rank",
    ("view_retrieval", "top1"): "view top 1",
    ("linear_svm", "map"): "linear SVM, mAP",
    ("object_neighbors", "micro"): "same-class share",
    ("spread", "effective_rank"): "effective rank",
}
_BASELINE = "random"
_PREVIEW_WIDTH = 720


def show(name: str, artifacts: Mapping[str, Artifact], states: Mapping[str, State]) -> None:
    console.print()
    table = Table(title=f"What {name} made", title_justify="left", title_style="bold")
    for column in ("step", "", "version", "size", "figures"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for row in _rows(artifacts, states):
        table.add_row(*row)
    console.print(table)
    results = _results(artifacts)
    if results:
        console.print()
        console.print(_results_table(results))
    places = _places(name, artifacts)
    if places:
        console.print()
        for words, path in places:
            console.print(f"{words:<16} {path}", soft_wrap=True)


def markdown(name: str, artifacts: Mapping[str, Artifact], states: Mapping[str, State]) -> str:
    """The same as a page of the Prefect UI, with a small copy of the best pairs."""
    lines = [f"# What {name} made", "", "| step | | version | size | figures |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(artifacts, states)]
    if "evaluation" in artifacts:
        lines += ["", artifacts["evaluation"].file("report.md").read_text()]
    if "correspondence" in artifacts:
        lines += ["", "## Mined pairs", "", f"![pairs]({_thumbnail(artifacts['correspondence'].file('preview.png'))})"]
    lines += ["", *(f"* {words}: `{path}`" for words, path in _places(name, artifacts))]
    return "\n".join(lines)


def _rows(artifacts: Mapping[str, Artifact], states: Mapping[str, State]) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for node, artifact in artifacts.items():
        figures = [
            words.format(artifact.metrics[metric])
            for metric, words in _KEY_FIGURES.get(artifact.step, ())
            if artifact.metrics.get(metric)
        ]
        outcome = "cached" if states[node].name == "Cached" else "made"
        rows.append((node, outcome, artifact.version, size(artifact.bytes), ", ".join(figures)))
    return rows


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _results(artifacts: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    if "evaluation" not in artifacts:
        return []
    return json.loads(artifacts["evaluation"].file("results.json").read_text())


def _results_table(results: list[dict[str, Any]]) -> Table:
    encoders = sorted({row["encoder"] for row in results}, key=lambda name: (not name.startswith(_BASELINE), name))
    values = {(row["protocol"], row["figure"], row["encoder"]): row for row in results}
    table = Table(title="What it is worth", title_justify="left", title_style="bold")
    for column in ("figure", "chance", *encoders):
        table.add_column(column.replace("_", " "), justify="left" if column == "figure" else "right")
    for figure, words in RESULTS.items():
        rows = [values[*figure, name] for name in encoders if (*figure, name) in values]
        if rows:
            cells = [_value(row["value"], row["chance"]) for row in rows]
            table.add_row(words, _value(rows[0]["chance"], rows[0]["chance"]), *cells)
    return table


def _value(value: float | None, chance: float | None) -> str:
    """Shares, which have a chance, in percent."""
    if value is None:
        return ""
    return f"{value:.1f}" if chance is None else f"{100 * value:.1f} %"


def _places(name: str, artifacts: Mapping[str, Artifact]) -> list[tuple[str, Path]]:
    places = []
    for node, words, file in (
        ("evaluation", "Report", "report.md"),
        ("object_pretraining", "Encoder", "encoder.safetensors"),
        ("correspondence", "Pair gallery", "gallery.html"),
    ):
        if node in artifacts:
            latest = artifacts[node].path.parents[1] / "latest" / name / node / file
            places.append((words, latest.relative_to(Path.cwd()) if latest.is_relative_to(Path.cwd()) else latest))
    return places


def _thumbnail(path: Path) -> str:
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_PREVIEW_WIDTH, 4 * _PREVIEW_WIDTH))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
