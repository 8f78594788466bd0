"""metrics.jsonl holds each logged step once, whatever happened to the attempts before."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_text_goes_into_the_file_alone(tmp_path: Path):
    with MetricsLog(tmp_path, 0) as log:
        log.write({"step": 1, "loss": 1.0, "warning": "collapsed"})
    assert json.loads((tmp_path / METRICS_FILE).read_text())["warning"] == "collapsed"
