"""The loop's alarms go off when they should: what is not finite, collapses, photos that can't be read."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.data.catalog import Catalog
from stages.learning.encoder import Encoder
from stages.learning.metrics import healthy_std
from stages.report import Report
from tests.stages.learning.small_training import Byol, records, run


class Explode(torch.autograd.Function):
    """Changes nothing on the way forward, and makes every gradient infinite on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(value: float, photo_catalog: Catalog, tmp_path: Path):
    class Poisoned(Byol):
        poison = staticmethod(lambda loss, step: loss * value if step == 3 else loss)

    with pytest.raises(FloatingPointError, match=rf"step 3 has loss {value}.*base_lr.*photos: .*\.jpg"):
        run(photo_catalog, tmp_path, Poisoned)
    assert [record["step"] for record in records(tmp_path)] == [1, 2]


def test_gradients_that_are_not_finite_stop_the_run_though_the_loss_is_fine(photo_catalog: Catalog, tmp_path: Path):
    class Poisoned(Byol):
        poison = staticmethod(lambda loss, step: Explode.apply(loss) if step == 2 else loss)

    with pytest.raises(FloatingPointError, match=r"step 2 has loss \d.* and gradient norm (nan|inf)"):
        run(photo_catalog, tmp_path, Poisoned)


def test_gradients_that_overflow_at_every_scale_stop_fp16(
    photo_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Poisoned(Byol):
        poison = staticmethod(lambda loss, step: Explode.apply(loss))

    with pytest.raises(FloatingPointError, match=r"not finite in so many steps.*fallen to 0.5.*'bf16'"):
        run(photo_catalog, tmp_path, Poisoned, precision="fp16", epochs="30 steps")


def collapsed(encoder: Encoder) -> Byol:
    """Every photo gets the same direction: no photo reaches the hidden layer, and the projection is constant."""
    method = Byol(encoder)
    with torch.no_grad():
        for net in (method.online, method.target):
            net.projector[0].weight.zero_()
            nn.init.ones_(net.projector[1].bias)
    return method


def test_a_collapse_raises_one_warning_that_stays_in_the_metrics(
    photo_catalog: Catalog, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, "stages"):
        report = run(photo_catalog, tmp_path, collapsed, epochs="3 steps", base_lr=1e-9)

    assert len(caplog.records) == 1
    assert "collapsed at step 1" in caplog.text
    assert "base_lr" in caplog.text
    assert [("warning" in record) for record in records(tmp_path)] == [True, False, False]
    assert records(tmp_path)[-1]["std"] < 0.1 * healthy_std(8)
    assert report.metrics["collapsed"] is True


def test_a_healthy_net_raises_none(whole: tuple[Path, Report]):
    assert not any("warning" in record for record in records(whole[0]))
    assert all(record["std"] > 0.4 * healthy_std(8) for record in records(whole[0]))


def broken_copy(catalog: Catalog, tmp_path: Path, broken: int) -> Catalog:
    """The same catalog over photos of which `broken` have become unreadable since."""
    root = tmp_path / "photos"
    shutil.copytree(catalog.root, root)
    for image in range(broken):
        (root / catalog.images["path"].iloc[image]).write_bytes(b"no longer a photo")
    return Catalog(catalog.directory, root)


def test_photos_that_have_become_unreadable_are_replaced_and_counted(photo_catalog: Catalog, tmp_path: Path):
    photos = broken_copy(photo_catalog, tmp_path, 1)
    report = run(photos, tmp_path / "out")
    assert report.metrics["unreadable"] == 1
    assert records(tmp_path / "out")[-1]["unreadable"] == 1
    assert records(tmp_path / "out")[-1]["images"] == 24, "batches stay full"


def test_too_many_unreadable_photos_stop_the_training(photo_catalog: Catalog, tmp_path: Path):
    photos = broken_copy(photo_catalog, tmp_path, 2)
    with pytest.raises(RuntimeError, match=r"2 of 8 photos.*no longer can: more than max_unreadable 20.00%"):
        run(photos, tmp_path / "out", max_unreadable=0.2)
