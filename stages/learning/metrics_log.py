"""The figures of a training as lines of metrics.jsonl and curves in TensorBoard."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"

log = logging.getLogger(__name__)


class MetricsLog:
    """Appends to `out/metrics.jsonl`, each line at once, and to `out/tensorboard/`. Use it in a `with` statement.

    Starting at `step` drops what a former attempt has written of later steps, so that no step is there twice. Of
    several processes one alone writes; with `write=False` only `last`, the last record, is kept.

    A full disk stops no training: lines wait in memory until there is room, the curves lack the steps between.
    """

    def __init__(self, out: Path, step: int, *, write: bool = True) -> None:
        path = out / METRICS_FILE
        kept = [record for record in _records(path) if record["step"] <= step]
        self.last: dict[str, Any] = kept[-1] if kept else {}
        self._writes = write
        if not write:
            return
        _rewrite(path, kept)
        if step == 0:
            shutil.rmtree(out / TENSORBOARD_FOLDER, ignore_errors=True)
        self._unwritten = b""
        self._file = path.open("ab", buffering=0)
        self._folder = str(out / TENSORBOARD_FOLDER)
        self._curves: SummaryWriter | None = self._open_curves(step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writes:
            with self._full_disk_survived():
                self._append()
            self._file.close()
            self._close_curves()

    def write(self, record: dict[str, Any]) -> None:
        """`record` holds `step` and figures; text (a warning) goes into the file alone."""
        self.last = record
        if not self._writes:
            return
        self._unwritten += json.dumps(record).encode() + b"\n"
        with self._full_disk_survived():
            self._append()
            self._draw(record)

    def sync(self) -> None:
        """Returns once all lines have reached the disk.

        Raises:
            OSError: they can't.
        """
        if self._writes:
            self._append()
            os.fsync(self._file.fileno())

    def _append(self) -> None:
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def _draw(self, record: dict[str, Any]) -> None:
        if self._curves is None:
            self._curves = self._open_curves(record["step"])
        for name, value in record.items():
            if name != "step" and not isinstance(value, str):
                self._curves.add_scalar(name, value, record["step"])

    def _open_curves(self, first_step: int) -> SummaryWriter:
        return SummaryWriter(self._folder, purge_step=first_step, flush_secs=20)

    def _close_curves(self) -> None:
        if self._curves is not None:
            with suppress(OSError):
                self._curves.close()
        self._curves = None

    @contextmanager
    def _full_disk_survived(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("the figures of step %s can't be written yet: %s. Free some space.", self.last["step"], error)
            self._close_curves()  # whose writer does not recover; the next record opens another


def _records(path: Path) -> list[dict[str, Any]]:
    """The lines of `path`, without a last one that a crash has cut off."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _rewrite(path: Path, records: list[dict[str, Any]]) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(json.dumps(record) + "\n" for record in records))
    os.replace(draft, path)
