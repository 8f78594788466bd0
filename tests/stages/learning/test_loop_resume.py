"""The loop stopped, killed and resumed: the same weights as if nothing had happened, or a clear refusal."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.data import loading
from stages.data.catalog import Catalog
from stages.learning import loop
from stages.learning.checkpoints import CHECKPOINT_FILE, Checkpoint, kept_file
from stages.learning.encoder import ENCODER_FILE, load_encoder
from stages.report import Report
from tests.stages.learning.settings import ENCODER
from tests.stages.learning.small_training import At, Byol, assert_same_weights, curve, records, run


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


def test_fp16_scales_the_loss_and_resumes_exactly(photo_catalog: Catalog, tmp_path: Path):
    run(photo_catalog, tmp_path / "whole", precision="fp16")
    stop = At(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        run(photo_catalog, tmp_path / "parts", precision="fp16", report=stop)
    run(photo_catalog, tmp_path / "parts", precision="fp16")
    assert all(record["scale"] > 0 for record in records(tmp_path / "whole"))
    assert curve(tmp_path / "whole") == curve(tmp_path / "parts")
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_stop_amid_parts_resumes_exactly(photo_catalog: Catalog, tmp_path: Path):
    parts = {"batch_size": 8, "accumulate": 2}
    run(photo_catalog, tmp_path / "whole", **parts)
    with pytest.raises(SystemExit):
        run(photo_catalog, tmp_path / "parts", report=At(2, lambda: os.kill(os.getpid(), signal.SIGTERM)), **parts)
    run(photo_catalog, tmp_path / "parts", **parts)
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
