"""Part (c): photos a second of a whole training, from JPEG files to the optimizer, and what the data cost of it.

BYOL by `stages.learning.loop.train`, with each renderer and batch size, against the same step on random views that lie
on the device already. `of_step` is the share of that speed which the whole training reaches: what is missing to 1, the
data and the loop's own figures cost. `data_share` is the loop's figure, the share of time that its thread waited for a
batch; a GPU works on while the thread waits, so there it is an upper bound. The runs follow one another, and a round is
a lap of some steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.rounds import alternate, summary
from benchmarks.step import finished, training_step
from benchmarks.training.photos import Photos
from benchmarks.training.steps import Case, our_method, random_views
from stages.data.policies import ImageViews
from stages.learning.devices import resolve_precision
from stages.learning.loop import train
from stages.learning.settings import Training
from stages.methods.byol import BYOL
from stages.process import available_cores
from stages.report import Report

RENDERERS = ("cpu", "device")


class Length(NamedTuple):
    """Steps in a lap, laps that are measured, and laps before, in which kernels are chosen and workers start."""

    steps: int
    laps: int
    before: int


CASES = [Case("resnet50", 224, 256), Case("resnet50", 224, 512)]
LENGTH = Length(steps=5, laps=8, before=2)
QUICK_CASES = [Case("test_resnet", 32, 4)]
QUICK_LENGTH = Length(steps=1, laps=2, before=1)


def measure(
    photos: Photos, out: Path, cases: Iterable[Case], length: Length, device: torch.device, workers: int
) -> dict[str, Any]:
    """Photos a second of the step alone and of trainings with each renderer, by case, as JSON values.

    A case that needs more memory than the GPU has is said to.

    Args:
        out: an empty folder for the trainings' files.
        workers: processes that decode, 0 for none.
    """
    precision = resolve_precision("auto", device)[0]
    figures: dict[str, Any] = {}
    for case in cases:
        name = f"byol {case.backbone} {case.size}px batch {case.batch} {precision}"
        try:
            step = _step_alone(case, precision, length, device)
            figures[name] = {"step": summary(step), "workers": workers, "cores": available_cores()}
            for renderer in RENDERERS:
                folder = out / f"{case.batch}-{renderer}"
                folder.mkdir()
                _train(photos, folder, case, length, renderer, precision, device, workers)
                figures[name][renderer] = _laps(folder, length, float(np.median(step)))
        except torch.OutOfMemoryError:
            figures.setdefault(name, {})["failed"] = "out of memory"
    return figures


def _step_alone(case: Case, precision: str, length: Length, device: torch.device) -> np.ndarray:
    """Photos a second in each lap."""
    view_1, view_2 = random_views(case, device)
    step = training_step(our_method("byol", case.backbone), {"view_1": view_1, "view_2": view_2}, precision, device)

    def steps() -> None:
        for _ in range(length.steps):
            step()

    seconds = alternate({"step": finished(steps, device)}, length.laps, warmup=length.before)["step"]
    return length.steps * case.batch / seconds


def _train(
    photos: Photos, out: Path, case: Case, length: Length, renderer: Any, precision: str, device: torch.device,
    workers: int,
) -> None:  # fmt: skip
    online = our_method("byol", case.backbone)
    assert isinstance(online, BYOL)
    hidden = int(online.encoder.settings["projector_hidden"])
    train(
        partial(BYOL, predictor_hidden=hidden, tau=online.tau_0), photos.catalog,
        ImageViews(photos.catalog.sizes, size=case.size), out=out, report=Report(), settings={"method": "byol"},
        encoder=online.encoder.settings, init=None,
        training=Training(
            epochs=f"{length.steps * (length.before + length.laps)} steps", warmup="0 steps", batch_size=case.batch,
            accumulate=1, optimizer="sgd", base_lr=0.05, momentum=0.9, weight_decay=1e-4, schedule="cosine",
            clip_norm=None, sync_batch_norm=False, precision=precision, compile=False, renderer=renderer,
            interpolation="bilinear", scaled_decode=False, log_every=length.steps, checkpoint_minutes=1000.0,
            keep_every=None, max_unreadable=0.0, seed=0, device=str(device), workers=workers,
        ),
    )  # fmt: skip


def _laps(folder: Path, length: Length, alone: float) -> dict[str, Any]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][-length.laps :]
    speeds = np.array([record["images_per_second"] for record in records])
    return {
        "images_per_second": summary(speeds),
        "of_step": summary(speeds / alone),
        "data_share": summary(np.array([record["data_share"] for record in records])),
    }
