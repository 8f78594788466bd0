"""How many epochs fit into the time, the same for all data sets: from a rehearsal of every method, 2 epochs each.

A training takes as long as its photos at the speed of the rehearsal, and a start. Catalog, copies and masks are the
rehearsal's own; regions, neighbours, features and pairs are made once a seed, and so is the evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.methods import METHODS
from benchmarks.quality.runs import Runs
from stages.store import Artifact

REHEARSAL = "2 epochs"
_EACH_SEED = ("regions", "retrieval", "roi_features", "correspondence")


@dataclass(frozen=True)
class Cost:
    """Of one data set and seed, in seconds: `epoch` is that of all methods together, `seed` all else."""

    epoch: float
    seed: float
    photos_per_second: Mapping[str, float]

    def seconds(self, epochs: int, seeds: int) -> float:
        return seeds * (self.seed + epochs * self.epoch)

    def figures(self) -> dict[str, object]:
        """JSON values."""
        return {"epoch": self.epoch, "seed": self.seed, "photos_per_second": dict(self.photos_per_second)}


def fitting_epochs(costs: Iterable[Cost], seconds: float, seeds: int) -> int:
    """How many each training may have so that all end within `seconds`; rounded down to fives from ten on."""
    costs = list(costs)
    fitting = int((seconds / seeds - sum(cost.seed for cost in costs)) / sum(cost.epoch for cost in costs))
    return fitting // 5 * 5 if fitting >= 10 else fitting


def rehearse(runs: Runs, methods: Sequence[str], seed: int) -> Cost:
    """Makes every encoder and their evaluation at toy length."""
    encoders = {method: runs.encoder(method, seed, REHEARSAL) for method in methods}
    others: dict[str, Artifact] = {}
    for method in methods:
        made = runs.inputs(method, seed, REHEARSAL)
        others |= {name: artifact for name, artifact in made.items() if name in _EACH_SEED}
    seconds = sum(float(each.manifest["seconds"]) for each in others.values())
    seconds += float(runs.evaluation(encoders, seed).manifest["seconds"])
    speeds, epoch = {}, 0.0
    for method, encoder in encoders.items():
        speeds[method], photos = speed(encoder), encoder.metrics["images_seen"] / 2
        epoch += photos / speeds[method]
        seconds += max(0.0, float(encoder.manifest["seconds"]) - 2 * photos / speeds[method])
    return Cost(epoch, seconds, speeds)


def speed(encoder: Artifact) -> float:
    """Photos a second of a training once it runs: the median of what it logged, its first step left out."""
    lines = (encoder.path / "metrics.jsonl").read_text().splitlines()
    return float(np.median([json.loads(line)["images_per_second"] for line in lines[1:]]))


def words(costs: Mapping[str, Cost], methods: Sequence[str], epochs: int, seeds: int) -> str:
    """The estimate for people."""
    lines = ["photos a second in training: " + ", ".join(METHODS[method].title for method in methods)]
    total = 0.0
    for name, cost in costs.items():
        speeds = ", ".join(f"{cost.photos_per_second[method]:.0f}" for method in methods)
        seconds = cost.seconds(epochs, seeds)
        total += seconds
        lines.append(f"  {name}: {speeds}; {epochs} epochs in {seeds} seeds take {seconds / 60:.0f} minutes")
    return "\n".join([*lines, f"  in all {total / 60:.0f} minutes, the rehearsal not counted"])
