"""The loop in two processes: it learns what one process learns, and stops and goes on as one."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from process_pair import ProcessPair

from stages.data.catalog import Catalog
from stages.data.policies import ImageViews
from stages.learning.checkpoints import Checkpoint
from stages.learning.distributed import rank
from stages.learning.encoder import load_encoder
from stages.learning.loop import train
from stages.learning.settings import Training
from stages.methods.byol import BYOL
from stages.methods.moco import MoCo
from stages.methods.simclr import SimCLR
from stages.report import Report
from tests.stages.learning.settings import ENCODER, LOOP, OBJECTIVES, PLACE

METHODS = {
    "byol": partial(BYOL, **OBJECTIVES["byol"]),
    "simclr": partial(SimCLR, **OBJECTIVES["simclr"]),
    "moco": partial(MoCo, **OBJECTIVES["moco"]),
    "moco with two heads": partial(MoCo, **OBJECTIVES["moco"], two_heads=True),
}


def work(method: str, catalog: Path, root: Path, out: Path, stop_at: int | None, changes: dict[str, Any]) -> Any:
    """A training of 4 steps of 8 photos; process 1 is asked to stop after step `stop_at`. The status, and metrics."""

    class Stopping(Report):
        def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
            if done == stop_at and rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    photos, report = Catalog(catalog, root), Stopping()
    settings = LOOP | PLACE | {"epochs": "4 steps", "batch_size": 8, "base_lr": 1.0} | changes
    try:
        train(
            METHODS[method], photos, ImageViews(photos.sizes, size=32), out=out, report=report,
            settings={"method": method}, encoder=ENCODER, init=None, training=Training(**settings),
        )  # fmt: skip
    except SystemExit as stopped:
        return stopped.code, report.metrics
    return 0, report.metrics


def arguments(method: str, catalog: Catalog, out: Path, stop_at: int | None = None, **changes: Any) -> tuple[Any, ...]:
    out.mkdir(exist_ok=True)
    return method, catalog.directory, catalog.root, out, stop_at, changes


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def assert_close(first: Path, second: Path, tolerance: float, *, but: str = "") -> None:
    ours, theirs = load_encoder(first).state_dict(), load_encoder(second).state_dict()
    for name, tensor in ours.items():
        if but and but in name:
            continue
        torch.testing.assert_close(tensor, theirs[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_learn_what_one_learns(
    method: str, two_processes: ProcessPair, photo_catalog: Catalog, tmp_path: Path
):
    one, two = tmp_path / "one", tmp_path / "two"
    synced = "moco" not in method  # MoCo's groups of the batch are processes
    gentle = {"sync_batch_norm": synced, "base_lr": 0.02}  # rounding does not grow
    assert work(*arguments(method, photo_catalog, one, **gentle))[0] == 0

    results = two_processes(work, *arguments(method, photo_catalog, two, **gentle))

    assert [status for status, _ in results] == [0, 0]
    assert results[0][1]["processes"] == 2
    assert results[0][1]["images_seen"] == 32
    assert results[1][1] == {}, "the first process reports"
    for ours, theirs in zip(records(two), records(one), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)
    # Batch norms that are not synchronised have running averages of their own; those of process 0 are kept.
    assert_close(one, two, 1e-4, but="" if synced else "running")


def test_accumulating_parts_is_one_step(two_processes: ProcessPair, photo_catalog: Catalog, tmp_path: Path):
    """Two processes with two parts each see the same photos in the same steps as one process with four parts."""
    local = {"accumulate": 2, "sync_batch_norm": False}
    two_processes(work, *arguments("byol", photo_catalog, tmp_path / "two", **local))
    work(*arguments("byol", photo_catalog, tmp_path / "one", **(local | {"accumulate": 4})))
    first, second = records(tmp_path / "one"), records(tmp_path / "two")
    assert [record["lr"] for record in first] == [record["lr"] for record in second]
    assert [record["tau"] for record in first] == [record["tau"] for record in second]
    assert first[0]["loss"] == pytest.approx(second[0]["loss"], rel=1e-4)
    assert first[0]["gradient_norm"] == pytest.approx(second[0]["gradient_norm"], rel=1e-3)


def test_a_signal_to_one_process_stops_both_and_they_resume_exactly(
    two_processes: ProcessPair, photo_catalog: Catalog, tmp_path: Path
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    two_processes(work, *arguments("byol", photo_catalog, whole))

    stopped = two_processes(work, *arguments("byol", photo_catalog, parts, 2))
    assert [status for status, _ in stopped] == [75, 75]
    checkpoint = Checkpoint.load(parts)
    assert checkpoint is not None
    assert checkpoint.step == 2
    assert len(checkpoint.rng) == 2

    assert [status for status, _ in two_processes(work, *arguments("byol", photo_catalog, parts))] == [0, 0]
    assert (parts / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()


def test_what_two_processes_began_one_can_end(two_processes: ProcessPair, photo_catalog: Catalog, tmp_path: Path):
    two_processes(work, *arguments("byol", photo_catalog, tmp_path, 2))
    status, metrics = work(*arguments("byol", photo_catalog, tmp_path))
    assert (status, metrics["processes"], metrics["steps"]) == (0, 1, 4)
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4]


def test_a_batch_that_can_not_be_divided_is_refused_with_one_that_can(photo_catalog: Catalog, tmp_path: Path):
    with pytest.raises(ValueError, match=r"batch_size 8 can't be divided among 1 processes with accumulate 3.*6 or 9"):
        work(*arguments("byol", photo_catalog, tmp_path, accumulate=3))
    with pytest.raises(ValueError, match=r"1 processes and accumulate 8 leaves 1 photo a part"):
        work(*arguments("byol", photo_catalog, tmp_path, accumulate=8))
