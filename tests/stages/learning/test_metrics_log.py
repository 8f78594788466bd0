"""metrics.jsonl holds each logged step once, whatever happened to the attempts before."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stages.learning.metrics_log import METRICS_FILE, TENSORBOARD_FOLDER, MetricsLog


def steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / METRICS_FILE).read_text().splitlines()]


def write(out: Path, first: int, last: int) -> None:
    with MetricsLog(out, first) as log:
        for step in range(first + 1, last + 1):
            log.write({"step": step, "loss": 1.0 / step})


def test_lines_are_on_the_disk_as_soon_as_they_are_written(tmp_path: Path):
    with MetricsLog(tmp_path, 0) as log:
        log.write({"step": 1, "loss": 0.5})
        assert steps(tmp_path) == [1]
        assert log.last == {"step": 1, "loss": 0.5}


def test_resuming_drops_later_steps_and_keeps_the_earlier(tmp_path: Path):
    write(tmp_path, 0, 6)
    with MetricsLog(tmp_path, 4) as log:
        assert steps(tmp_path) == [1, 2, 3, 4]
        assert log.last["step"] == 4
    write(tmp_path, 4, 8)
    assert steps(tmp_path) == list(range(1, 9))


def test_starting_anew_forgets_a_former_attempt(tmp_path: Path):
    write(tmp_path, 0, 6)
    write(tmp_path, 0, 2)
    assert steps(tmp_path) == [1, 2]
    assert len(list((tmp_path / TENSORBOARD_FOLDER).iterdir())) == 1


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path):
    write(tmp_path, 0, 2)
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 3, "lo')
    write(tmp_path, 3, 4)
    assert steps(tmp_path) == [1, 2, 4]


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path):
    write(tmp_path, 0, 6)
    write(tmp_path, 4, 8)
    events = EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER)).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 9))


def test_a_process_that_does_not_write_knows_the_last_record_alone(tmp_path: Path):
    write(tmp_path, 0, 3)
    with MetricsLog(tmp_path, 2, write=False) as log:
        assert log.last["step"] == 2
        log.write({"step": 3, "loss": 0.5})
        log.sync()
        assert log.last == {"step": 3, "loss": 0.5}
    assert steps(tmp_path) == [1, 2, 3], "nothing was touched"
    with MetricsLog(tmp_path / "nowhere", 0, write=False) as log:
        assert log.last == {}


# TensorBoard's writer ends with the error; that its thread says so too is what the filter is for.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_loses_no_line_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with MetricsLog(tmp_path, 0) as log:
        log.write({"step": 1, "loss": 1.0})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # no file may have more bytes
        try:
            for step in range(2, 9):
                log.write({"step": step, "loss": 1.0 / step})
            with pytest.raises(OSError, match="File too large"):
                log.sync()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "Free some space" in caplog.text
        log.write({"step": 9, "loss": 0.1})
        log.sync()
        assert steps(tmp_path) == list(range(1, 10))
    events = EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER)).Reload()
    shown = [event.step for event in events.Scalars("loss")]
    assert shown[-1] == 9
    assert len(set(shown)) == len(shown)


def test_text_goes_into_the_file_alone(tmp_path: Path):
    with MetricsLog(tmp_path, 0) as log:
        log.write({"step": 1, "loss": 1.0, "warning": "collapsed"})
    assert json.loads((tmp_path / METRICS_FILE).read_text())["warning"] == "collapsed"
