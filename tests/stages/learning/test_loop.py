"""The loop: what it writes, how it stops, that it resumes exactly, and that its alarms go off when they should."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from stages.data import loading
from stages.data.catalog import Catalog
from stages.data.copies import run as make_copies
from stages.data.policies import ImageViews
from stages.learning import loop
from stages.learning.checkpoints import CHECKPOINT_FILE, Checkpoint, kept_file
from stages.learning.encoder import ENCODER_FILE, Encoder, load_encoder, random_encoder, save_encoder
from stages.learning.loop import train
from stages.learning.method import Output
from stages.learning.metrics import healthy_std
from stages.learning.schedules import target_tau
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


class Explode(torch.autograd.Function):
    """Changes nothing on the way forward, and makes every gradient infinite on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.inf


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


@pytest.fixture(scope="module")
def whole(photo_catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Six steps that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    return out, run(photo_catalog, out)


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_and_the_rest_gives_the_same_weights(
    number: signal.Signals, whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path
):
    former = signal.getsignal(number)
    with pytest.raises(SystemExit) as stopped:
        run(photo_catalog, tmp_path, report=At(3, lambda: os.kill(os.getpid(), number)))
    assert stopped.value.code == 75
    assert signal.getsignal(number) is former
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3]
    assert not (tmp_path / ENCODER_FILE).exists()

    run(photo_catalog, tmp_path)

    assert_same_weights(whole[0], tmp_path)
    assert curve(whole[0]) == curve(tmp_path)


def test_a_stop_that_also_ends_the_data_workers_is_a_stop_and_no_failure(
    whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As with `kill -- -GROUP`: the signal reaches training while it waits for a batch that will never come."""

    def dying(*args: Any, **settings: Any) -> Iterator[dict[str, Tensor]]:
        for number, batch in enumerate(loading.training_loader(*args, **settings)):
            if number == 4:
                os.kill(os.getpid(), signal.SIGTERM)
                raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_loader", dying)
        with pytest.raises(SystemExit) as stopped:
            run(photo_catalog, tmp_path)
    assert stopped.value.code == 75

    run(photo_catalog, tmp_path)
    assert_same_weights(whole[0], tmp_path)


def test_a_crash_goes_back_to_the_last_checkpoint_and_no_step_is_doubled(
    whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path
):
    def crash() -> None:
        raise MemoryError("out of memory")

    with pytest.raises(MemoryError):
        run(photo_catalog, tmp_path, report=At(5, crash), checkpoint_minutes=1e-9)
    checkpoint = Checkpoint.load(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 4
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4, 5]

    run(photo_catalog, tmp_path)

    assert_same_weights(whole[0], tmp_path)
    assert curve(whole[0]) == curve(tmp_path)


def test_a_crash_after_the_last_step_costs_no_training(
    whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path
):
    run(photo_catalog, tmp_path)
    (tmp_path / ENCODER_FILE).unlink()

    report = run(photo_catalog, tmp_path, report=At(1, lambda: pytest.fail("trained again")))

    assert_same_weights(whole[0], tmp_path)
    assert report.metrics["loss"] == records(tmp_path)[-1]["loss"]


def test_random_numbers_of_a_method_go_on_where_they_were(photo_catalog: Catalog, tmp_path: Path):
    class Noisy(Byol):
        poison = staticmethod(lambda loss, step: loss * torch.rand(()))

    run(photo_catalog, tmp_path / "whole", Noisy)
    with pytest.raises(SystemExit):
        run(photo_catalog, tmp_path / "parts", Noisy, report=At(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    run(photo_catalog, tmp_path / "parts", Noisy)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("change", [{"batch_size": 2}, {"base_lr": 0.1}, {"seed": 3}, {"settings": {"method": "x"}}])
def test_a_checkpoint_of_other_settings_is_refused(change: dict[str, Any], photo_catalog: Catalog, tmp_path: Path):
    with pytest.raises(SystemExit):
        run(photo_catalog, tmp_path, report=At(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(ValueError, match=f"step 1 does not fit.*{next(iter(change)).replace('settings', 'method')}"):
        run(photo_catalog, tmp_path, **change)


def test_a_damaged_checkpoint_never_means_a_silent_restart(photo_catalog: Catalog, tmp_path: Path):
    (tmp_path / CHECKPOINT_FILE).parent.mkdir()
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"PK\x03\x04 half of a file")
    with pytest.raises(ValueError, match=r"damaged.*Delete the directory"):
        run(photo_catalog, tmp_path)


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


def test_fp16_scales_the_loss_and_resumes_exactly(photo_catalog: Catalog, tmp_path: Path):
    run(photo_catalog, tmp_path / "whole", precision="fp16")
    stop = At(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        run(photo_catalog, tmp_path / "parts", precision="fp16", report=stop)
    run(photo_catalog, tmp_path / "parts", precision="fp16")
    assert all(record["scale"] > 0 for record in records(tmp_path / "whole"))
    assert curve(tmp_path / "whole") == curve(tmp_path / "parts")
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_gradients_that_overflow_at_every_scale_stop_fp16(
    photo_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Poisoned(Byol):
        poison = staticmethod(lambda loss, step: Explode.apply(loss))

    with pytest.raises(FloatingPointError, match=r"not finite in so many steps.*fallen to 0.5.*'bf16'"):
        run(photo_catalog, tmp_path, Poisoned, precision="fp16", epochs="30 steps")


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


def test_a_stop_amid_parts_resumes_exactly(photo_catalog: Catalog, tmp_path: Path):
    parts = {"batch_size": 8, "accumulate": 2}
    run(photo_catalog, tmp_path / "whole", **parts)
    with pytest.raises(SystemExit):
        run(photo_catalog, tmp_path / "parts", report=At(2, lambda: os.kill(os.getpid(), signal.SIGTERM)), **parts)
    run(photo_catalog, tmp_path / "parts", **parts)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_encoders_are_kept_and_training_can_go_back_to_one(
    whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path
):
    run(photo_catalog, tmp_path, keep_every="8 images")
    kept = sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-000000002", "step-000000004", "step-000000006"]
    assert_same_weights(tmp_path, tmp_path / "checkpoints" / "step-000000006")
    assert load_encoder(tmp_path / "checkpoints" / "step-000000002").settings == ENCODER

    os.replace(tmp_path / kept_file(2), tmp_path / CHECKPOINT_FILE)
    run(photo_catalog, tmp_path, report=At(2, lambda: pytest.fail("went back further")), keep_every="8 images")
    assert_same_weights(whole[0], tmp_path)


def test_a_full_disk_stops_no_training(
    whole: tuple[Path, Report], photo_catalog: Catalog, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "scratch").mkdir(parents=True)
    (tmp_path / "scratch" / "checkpoint.tmp").mkdir()  # where the draft goes: every attempt to write it fails
    with caplog.at_level(logging.WARNING, "stages"):
        run(photo_catalog, tmp_path, checkpoint_minutes=1e-9)
    assert "no checkpoint of step 1 could be written" in caplog.text
    assert "no checkpoint of step 6 could be written" in caplog.text
    assert_same_weights(whole[0], tmp_path)


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
