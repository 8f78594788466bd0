"""The figures of a data set: read from the artifacts of its runs, with mean and spread over the seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from benchmarks.quality.methods import METHODS
from benchmarks.quality.runs import Runs
from stages.evaluation.embeddings import RANDOM
from stages.store import Artifact

# Of the evaluation: protocol, figure, and what it is called here.
MEASURED = {
    "svm_map": ("linear_svm", "map"),
    "same_class": ("object_neighbors", "micro"),
    "same_class_macro": ("object_neighbors", "macro"),
    "view_rank": ("view_retrieval", "rank"),
}
# Of the manifests of regions, masks and pairs.
_COVERAGE = ("abo_100", "abo_all", "recall_100", "mask_abo", "box_abo")
_PAIRS = ("same_class_iou", "same_class_centre", "random_same_class_iou", "random_same_class_centre")

Values = dict[str, dict[str, list[float]]]


def of_data_set(runs: Runs, methods: Sequence[str], seeds: Sequence[int], length: str) -> dict[str, Any]:
    """All figures as JSON values. Makes what is not there yet: the trainings, then the evaluation, seed by seed."""
    values: Values = {}
    chances: dict[str, float] = {}
    curves: dict[str, list[dict[str, list[float]]]] = {method: [] for method in methods}
    covered: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        encoders = {method: runs.encoder(method, seed, length) for method in methods}
        rows = json.loads(runs.evaluation(encoders, seed).file("results.json").read_text())
        _collect(rows, (RANDOM, *methods), values, chances)
        for method in methods:
            curves[method].append(_curve(encoders[method]))
        for step, metrics in _of_inputs(runs, methods, seed, length).items():
            covered.setdefault(step, []).append(metrics)
    trained = next(iter(encoders.values())).metrics
    return {
        "length": length,
        "steps": trained["steps"],
        "images_seen": trained["images_seen"],
        "precision": trained["precision"],
        "seeds": list(seeds),
        "chance": chances,
        "values": values,
        "mean": {figure: {name: mean(each) for name, each in of.items()} for figure, of in values.items()},
        "stdev": {figure: {name: _spread(each) for name, each in of.items()} for figure, of in values.items()},
        "gains": {figure: gains(of) for figure, of in values.items()},
        "regions": {step: _means(each) for step, each in covered.items()},
        "curves": curves,
    }


def gains(values: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Of each object-level method over its base, seed by seed: `differences`, their `mean`, and `order`."""
    found = {}
    for name, each in values.items():
        base = METHODS[name].base if name in METHODS else None
        if base is not None and base in values:
            differences = [ours - theirs for ours, theirs in zip(each, values[base], strict=True)]
            found[name] = {"base": base, "differences": differences, "mean": mean(differences),
                           "order": order(differences)}  # fmt: skip
    return found


def order(differences: Sequence[float]) -> str:
    """above or below: all seeds agree, and their mean is more than two standard errors; else unclear."""
    middle, error = mean(differences), _spread(differences) / len(differences) ** 0.5
    if len(differences) < 2 or abs(middle) <= 2 * error:
        return "unclear"
    if min(differences) > 0:
        return "above"
    return "below" if max(differences) < 0 else "unclear"


def _collect(rows: Sequence[dict[str, Any]], names: Sequence[str], values: Values, chances: dict[str, float]) -> None:
    wanted = {place: figure for figure, place in MEASURED.items()}
    for row in rows:
        figure = wanted.get((row["protocol"], row["figure"]))
        if figure is not None and row["encoder"] in names:
            values.setdefault(figure, {}).setdefault(row["encoder"], []).append(row["value"])
            chances[figure] = row["chance"]


def _curve(encoder: Artifact) -> dict[str, list[float]]:
    """`epoch` and `loss` of each line of the training's log, `probe_epoch` and `probe` of the looks along the way."""
    curve: dict[str, list[float]] = {"epoch": [], "loss": [], "probe_epoch": [], "probe": []}
    for line in (encoder.path / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        curve["epoch"].append(round(record["epoch"], 3))
        curve["loss"].append(round(record["loss"], 5))
        if "probe_top1" in record:
            curve["probe_epoch"].append(round(record["epoch"], 3))
            curve["probe"].append(round(record["probe_top1"], 5))
    return curve


def _of_inputs(runs: Runs, methods: Sequence[str], seed: int, length: str) -> dict[str, dict[str, float]]:
    """How well regions and masks cover the labelled objects, and how many pairs are of one class."""
    found: dict[str, dict[str, float]] = {}
    for method in methods:
        for step, artifact in runs.inputs(method, seed, length).items():
            kept = _PAIRS if step == "correspondence" else _COVERAGE
            metrics = {name: value for name, value in artifact.metrics.items() if name in kept}
            if metrics:
                found[step] = metrics
    return found


def _means(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: mean(metrics[name] for metrics in each) for name in each[0]}


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
