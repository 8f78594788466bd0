"""A training of a few steps on eight photos, and what to ask it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from stages.data.catalog import Catalog
from stages.data.policies import ImageViews
from stages.learning.encoder import ENCODER_FILE, Encoder, load_encoder
from stages.learning.loop import train
from stages.learning.method import Output
from stages.learning.settings import Training
from stages.methods.byol import BYOL
from stages.report import Report
from tests.stages.learning.settings import ENCODER, LOOP, PLACE


class Byol(BYOL):
    """BYOL that can be made to fail: `poison(loss, step)` replaces the loss, steps counted from 1."""

    poison = staticmethod(lambda loss, step: loss)

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder, predictor_hidden=16, tau=0.9)
        self.step = 0

    def forward(self, batch: Any) -> Output:
        self.step += 1
        output = super().forward(batch)
        return output._replace(loss=self.poison(output.loss, self.step))


class At(Report):
    """Calls `action` once, when `step` steps are done."""

    def __init__(self, step: int, action: Any) -> None:
        super().__init__()
        self.step, self.action = step, action

    def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
        if done == self.step:
            self.action()


def run(
    catalog: Catalog,
    out: Path,
    method: Any = Byol,
    report: Report | None = None,
    *,
    init: Path | None = None,
    settings: dict[str, Any] | None = None,
    copies: Path | None = None,
    probe: dict[str, Any] | None = None,
    **changes: Any,
) -> Report:
    report = report or Report()
    out.mkdir(exist_ok=True)
    train(
        method, catalog, ImageViews(catalog.sizes, size=32), out=out, report=report, encoder=ENCODER, init=init,
        settings=settings or {"method": "byol"}, training=Training(**(LOOP | PLACE | changes)), copies=copies,
        probe=probe,
    )  # fmt: skip
    return report


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


CLOCK = ("images_per_second", "step_seconds", "data_seconds", "data_share", "memory_mb")


def curve(out: Path) -> list[dict[str, Any]]:
    """The records without what depends on the clock."""
    return [{k: v for k, v in record.items() if k not in CLOCK} for record in records(out)]


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = load_encoder(first).state_dict(), load_encoder(second).state_dict()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    assert (first / ENCODER_FILE).read_bytes() == (second / ENCODER_FILE).read_bytes()
