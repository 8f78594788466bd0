"""The figures of a training as lines of metrics.jsonl and curves in TensorBoard."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class MetricsLog:
    """Appends to `out/metrics.jsonl`, each line flushed, and to `out/tensorboard/`. Use it in a `with` statement.

    Starting at `step` drops what a former attempt has written of later steps, so that no step is there twice.
    """

    def __init__(self, out: Path, step: int) -> None:
        self._path = out / METRICS_FILE
        kept = [record for record in _records(self._path) if record["step"] <= step]
        self.last: dict[str, Any] = kept[-1] if kept else {}
        _rewrite(self._path, kept)
        if step == 0:
            shutil.rmtree(out / TENSORBOARD_FOLDER, ignore_errors=True)
        self._file = self._path.open("a")
        self._curves = SummaryWriter(str(out / TENSORBOARD_FOLDER), purge_step=step + 1, flush_secs=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._curves.close()

    def write(self, record: dict[str, Any]) -> None:
        """`record` holds `step` and figures; text (a warning) goes into the file alone."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name != "step" and not isinstance(value, str):
                self._curves.add_scalar(name, value, record["step"])
        self.last = record

    def sync(self) -> None:
        """Returns once all lines have reached the disk."""
        os.fsync(self._file.fileno())


def _records(path: Path) -> list[dict[str, Any]]:
    """The lines of `path`, without a last one that a crash has cut off."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _rewrite(path: Path, records: list[dict[str, Any]]) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(json.dumps(record) + "\n" for record in records))
    os.replace(draft, path)
