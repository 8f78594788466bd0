"""What a step tells the world while it works: progress, words and final figures."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, TextIO

# Lines with this prefix on a child's standard output are messages for its parent; the rest goes to the step's log.
MESSAGE_PREFIX = "@orl "
_SECONDS_BETWEEN_UPDATES = 0.25


class Report:
    """Collects the figures of a step. This base class shows nothing: tests and library callers use it as it is."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}

    def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
        """`done` of `total` units are finished; `figures` are the current values worth a glance (the loss, say)."""

    def metric(self, **values: Any) -> None:
        """Final figures (JSON values) that the step's manifest keeps."""
        self.metrics.update(values)


class StreamReport(Report):
    """Writes each message as one JSON line for a parent process to read, progress at most four times a second."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._last_update = 0.0

    def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
        now = time.monotonic()
        if done < total and now - self._last_update < _SECONDS_BETWEEN_UPDATES:
            return
        self._last_update = now
        self.send(done=done, total=total, unit=unit, figures=figures)

    def send(self, **message: Any) -> None:
        self._stream.write(MESSAGE_PREFIX + json.dumps(message) + "\n")
        self._stream.flush()


class ReportHandler(logging.Handler):
    """Sends our own log records as messages, so that a parent can show them and leave third parties' to the log."""

    def __init__(self, report: StreamReport) -> None:
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report.send(log=record.getMessage(), level=record.levelname)
