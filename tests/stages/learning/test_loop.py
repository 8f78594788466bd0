"""The loop: what it writes, how it starts, and that each setting does what it says."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from stages.data.catalog import Catalog
from stages.data.copies import run as make_copies
from stages.learning.encoder import Encoder, load_encoder, random_encoder, save_encoder
from stages.learning.schedules import target_tau
from stages.report import Report
from tests.stages.learning.settings import ENCODER
from tests.stages.learning.small_training import Byol, assert_same_weights, curve, records, run


def test_writes_all_its_files_and_figures(whole: tuple[Path, Report]):
    out, report = whole
    assert (out / "views.png").read_bytes().startswith(b"\x89PNG")
    assert list((out / "tensorboard").iterdir())
    assert load_encoder(out).settings == ENCODER
    assert [record["step"] for record in records(out)] == [1, 2, 3, 4, 5, 6]
    expected = {"step", "epoch", "images", "loss", "lr", "tau", "gradient_norm", "update_norm", "std",
                "effective_rank", "covariance_rank", "positive_similarity", "negative_similarity", "collapsed",
                "images_per_second", "step_seconds", "data_seconds", "data_share", "memory_mb"}  # fmt: skip
    assert {name for record in records(out) for name in record} == expected
    assert records(out)[2]["images"] == 12
    assert records(out)[2]["epoch"] == 12 / 8
    assert report.metrics["loss"] == records(out)[-1]["loss"]
    assert {"steps": 6, "images_seen": 24, "collapsed": False, "precision": "fp32"}.items() <= report.metrics.items()
    assert report.metrics["images_per_second"] > 0
    assert report.metrics["dropped"] == "predictor, target network"
    assert all(isinstance(value, (int, float, str)) for value in report.metrics.values())


def test_the_learning_rate_is_scaled_and_warmed_up(whole: tuple[Path, Report]):
    rates = [record["lr"] for record in records(whole[0])]
    peak = 3.2 * 4 / 256
    expected = [peak * (1 + math.cos(math.pi * k / 6)) / 2 for k in range(6)]
    expected[0] *= 1e-4
    expected[1] *= 1 - 0.5 * (1 - 1e-4)
    assert rates == pytest.approx(expected)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path
):
    run(photo_catalog, tmp_path / "same")
    run(photo_catalog, tmp_path / "other", seed=1)
    assert_same_weights(whole[0], tmp_path / "same")
    assert curve(whole[0]) == curve(tmp_path / "same")
    assert curve(whole[0])[0]["loss"] != curve(tmp_path / "other")[0]["loss"]


def test_the_learning_moves_the_weights(whole: tuple[Path, Report]):
    before, after = random_encoder(0, **ENCODER), load_encoder(whole[0])
    assert not torch.equal(before.projector[3].weight, after.projector[3].weight)
    assert all(record["update_norm"] > 0 for record in records(whole[0]))


def test_training_can_start_from_an_encoder(photo_catalog: Catalog, tmp_path: Path):
    given = random_encoder(5, **ENCODER)
    save_encoder(given, tmp_path)
    seen = []

    def method(encoder: Encoder) -> Byol:
        assert torch.equal(encoder.projector[0].weight, given.projector[0].weight)
        seen.append(Byol(encoder))
        return seen[0]

    run(photo_catalog, tmp_path / "out", method, init=tmp_path, epochs="1 step")
    assert seen[0].online.training
    assert torch.equal(seen[0].target.projector[0].weight, given.projector[0].weight) is False, "it has followed"


def test_an_encoder_of_another_architecture_is_refused(photo_catalog: Catalog, tmp_path: Path):
    save_encoder(random_encoder(0, **(ENCODER | {"projector_out": 4})), tmp_path)
    with pytest.raises(ValueError, match=r"'projector_out': 4.*'projector_out': 8"):
        run(photo_catalog, tmp_path / "out", init=tmp_path)


def test_logs_every_so_many_steps_and_always_the_first_and_the_last(photo_catalog: Catalog, tmp_path: Path):
    run(photo_catalog, tmp_path, epochs="5 steps", log_every=3)
    assert [record["step"] for record in records(tmp_path)] == [1, 3, 5]


def test_bf16_learns_about_the_same(whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path):
    report = run(photo_catalog, tmp_path, precision="bf16")
    assert report.metrics["precision"] == "bf16"
    assert records(tmp_path)[0]["loss"] == pytest.approx(records(whole[0])[0]["loss"], rel=0.05)
    assert load_encoder(tmp_path).projector[3].weight.dtype == torch.float32


def test_a_batch_of_one_is_refused(photo_catalog: Catalog, tmp_path: Path):
    with pytest.raises(ValueError, match=r"batch_size 1 .*batch norm needs at least 2"):
        run(photo_catalog, tmp_path, batch_size=1)


def test_a_training_has_at_least_one_step(photo_catalog: Catalog, tmp_path: Path):
    assert run(photo_catalog, tmp_path, epochs="0.1 epochs").metrics["steps"] == 1


def test_clipped_gradients_move_the_weights_less(whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path):
    free = records(whole[0])[0]
    run(photo_catalog, tmp_path, clip_norm=free["gradient_norm"] / 10, epochs="6 steps", weight_decay=0.0)
    clipped = records(tmp_path)[0]
    assert clipped["gradient_norm"] == pytest.approx(free["gradient_norm"]), "the log shows the norm before"
    assert clipped["update_norm"] == pytest.approx(free["update_norm"] / 10, rel=0.1)


def test_parts_of_a_batch_make_one_step(photo_catalog: Catalog, tmp_path: Path):
    run(photo_catalog, tmp_path, batch_size=8, accumulate=2, epochs="4 steps")
    assert [record["images"] for record in records(tmp_path)] == [8, 16, 24, 32]
    assert [record["tau"] for record in records(tmp_path)] == pytest.approx([target_tau(k / 4, 0.9) for k in range(4)])


@pytest.mark.parametrize("renderer", ["cpu", "device"])
def test_both_renderers_train_about_the_same(
    renderer: str, whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path
):
    run(photo_catalog, tmp_path, renderer=renderer, workers=1)
    first, second = records(whole[0])[0], records(tmp_path)[0]
    assert second["loss"] == pytest.approx(first["loss"], rel=0.02)
    assert (renderer == "cpu") == (second["loss"] == first["loss"])


@pytest.mark.parametrize("change", [{"interpolation": "bicubic"}, {"scaled_decode": True}, {"copies": 64}])
def test_how_views_are_drawn_changes_what_is_seen(
    change: dict[str, Any], whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path
):
    if side := change.get("copies"):
        change = {"copies": tmp_path / "copies"}
        change["copies"].mkdir()
        make_copies(
            out=change["copies"], report=Report(), catalog=photo_catalog.directory, root=photo_catalog.root, side=side,
            quality=90, workers=1,
        )  # fmt: skip
    run(photo_catalog, tmp_path / "out", epochs="1 step", **change)
    first, second = records(whole[0])[0], records(tmp_path / "out")[0]
    assert second["loss"] != first["loss"]
    assert second["loss"] == pytest.approx(first["loss"], rel=0.1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_training_is_about_the_same(whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path):
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    run(photo_catalog, tmp_path, compile=True)
    assert counters["unique_graphs"] > before, "something was compiled"
    losses = [[record["loss"] for record in records(out)] for out in (whole[0], tmp_path)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@pytest.fixture
def labelled_catalog(photo_catalog: Catalog, tmp_path: Path) -> Catalog:
    """The same photos, two objects in each, of two classes."""
    directory = tmp_path / "labelled"
    shutil.copytree(photo_catalog.directory, directory)
    rows = [(image, image % 2, x, 10, x + 60, 70, False, False) for image in range(len(photo_catalog)) for x in (5, 80)]
    columns = ["image", "category", "x0", "y0", "x1", "y1", "difficult", "crowd"]
    pd.DataFrame(rows, columns=columns).to_parquet(directory / "labels.parquet")
    (directory / "categories.json").write_text('["even", "odd"]')
    return Catalog(directory, photo_catalog.root)


def test_a_probe_looks_now_and_then_and_changes_nothing(
    whole: tuple[Path, Report], photo_catalog: Catalog, labelled_catalog: Catalog, tmp_path: Path
):
    looking = {"catalog": labelled_catalog.directory, "root": labelled_catalog.root, "every": "4 steps", "size": 32,
               "max_objects": 50, "neighbors": 5}  # fmt: skip
    out = tmp_path / "out"
    run(photo_catalog, out, probe=looking, log_every=5)
    assert [record["step"] for record in records(out)] == [1, 4, 5, 6]
    looked = [record for record in records(out) if "probe_top1" in record]
    assert [record["step"] for record in looked] == [4]
    assert 0 <= looked[0]["probe_top1"] <= 1
    assert_same_weights(whole[0], out)
