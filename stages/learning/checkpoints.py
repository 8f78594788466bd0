"""Checkpoints: everything a training needs to go on as if it had never stopped, and stopping in good order."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor, nn

CHECKPOINT_FILE = Path("scratch", "checkpoint.pt")
_SHOWN_DIFFERENCES = 10
_SECONDS_BETWEEN_LOOKS = 0.02


def kept_file(step: int) -> Path:
    """Where the kept checkpoint of `step` lies, relative to `out`."""
    return CHECKPOINT_FILE.with_name(f"checkpoint-{step:09d}.pt")


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """States of PyTorch's generators that this process draws from: "cpu" and, where `device` is a GPU, "cuda"."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `step` steps.

    Attributes:
        settings: what decides the course of the training, as JSON values.
        step: steps taken.
        seconds: time spent on them, all attempts together.
        method: parameters and buffers of all its networks.
        optimizer: state of the optimizer.
        scaler: state of the gradient scaler; empty unless the precision is fp16.
        rng: `rng_state` of each process, by rank. Views have generators of their own (`stages.data.views`).
    """

    settings: Mapping[str, Any]
    step: int
    seconds: float
    method: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    rng: Sequence[Mapping[str, Tensor]]

    def save(self, out: Path, *, keep: bool = False) -> None:
        """Writes `out/scratch/checkpoint.pt`. A crash at any moment leaves the former file or this one, whole.

        Args:
            keep: leave it also as `kept_file(step)`, which no later checkpoint replaces. It takes no space until then.
                To go back to it, put it in the place of `checkpoint.pt`.

        Raises:
            OSError: the disk is full or failing. The former checkpoint is untouched, and nothing half-written is left.
        """
        path = out / CHECKPOINT_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.unlink(missing_ok=True)  # a crash may have left one that is a kept checkpoint under another name
        try:
            with draft.open("wb") as file:
                torch.save({**vars(self), "settings": _plain(self.settings)}, file)
                file.flush()
                os.fsync(file.fileno())
            if keep:
                _second_name(draft, out / kept_file(self.step))
            os.replace(draft, path)
            _sync_folder(path.parent)
        except BaseException as error:
            draft.unlink(missing_ok=True)
            # When a write fails, torch.save complains of what follows from it: a RuntimeError of its zip writer.
            cause = error.__context__ if isinstance(error, RuntimeError) else error
            if isinstance(cause, OSError):
                raise OSError(cause.errno, cause.strerror, str(path)) from error
            raise

    @classmethod
    def load(cls, out: Path) -> Checkpoint | None:
        """The checkpoint in `out`, None when there is none.

        Raises:
            ValueError: there is a file, but it can't be read.
        """
        path = out / CHECKPOINT_FILE
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as file:  # which torch.save writes, and torch.load reads without checking sums
                if (broken := file.testzip()) is not None:
                    raise zipfile.BadZipFile(f"wrong check sum of {broken}")
            return cls(**torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch.load has no error of its own, and its words recommend unsafe loading
            raise ValueError(
                f"{path} is damaged or not a checkpoint of this project ({type(error).__name__}). "
                f"Delete the directory {out} to train again from the start."
            ) from error

    def restore(
        self,
        settings: Mapping[str, Any],
        method: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Puts the state into `method`, `optimizer` and `scaler`. Generators are left to `restore_rng`.

        Raises:
            ValueError: the checkpoint belongs to other settings or to another network; says what differs.
        """
        differences = _differences("setting", _plain(settings), self.settings)
        differences += _differences("tensor", _shapes(method.state_dict()), _shapes(self.method))
        if differences:
            more = len(differences) - _SHOWN_DIFFERENCES
            shown = differences[:_SHOWN_DIFFERENCES] + ([f"and {more} more"] if more > 0 else [])
            raise ValueError(
                f"the checkpoint of step {self.step} does not fit this training: {'; '.join(shown)}. Train with the "
                "settings it was made with, or delete the .partial directory it lies in to start again."
            )
        method.load_state_dict(self.method)
        optimizer.load_state_dict(dict(self.optimizer))
        if self.scaler:
            scaler.load_state_dict(dict(self.scaler))

    def restore_rng(self, rank: int) -> None:
        """Call it right before the first step: making a network or a DataLoader also draws from the generators.

        A process that was not there when the checkpoint was made has nothing to restore, and keeps its generators.
        """
        if rank >= len(self.rng):
            return
        states = self.rng[rank]
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            for gpu in range(torch.cuda.device_count()):  # a process trains on one of them
                torch.cuda.set_rng_state(states["cuda"], gpu)


class StopRequest:
    """Within the `with` block, SIGTERM and SIGINT are noted instead of ending the process at once.

    Signals can only be handled in the main thread; in any other, nothing is changed.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.requested = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def soon(self, seconds: float) -> bool:
        """Whether a request is there, or comes within `seconds`.

        A signal to the whole process group may end the data workers before this process has seen it.
        """
        deadline = time.monotonic() + seconds
        while not self.requested and time.monotonic() < deadline:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return self.requested

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def _second_name(file: Path, name: Path) -> None:
    """Leaves `file` under `name` too, whole or not at all: as a hard link, or as a copy where there are none."""
    draft = name.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    try:
        try:
            os.link(file, draft)
        except OSError:
            shutil.copyfile(file, draft)
            with draft.open("rb") as copy:
                os.fsync(copy.fileno())
        os.replace(draft, name)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """New names, too, have to reach the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings))


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _differences(kind: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    nothing = "nothing"
    return [
        f"{kind} {name} is {expected.get(name, nothing)} here and {found.get(name, nothing)} in the checkpoint"
        for name in sorted({*expected, *found})
        if expected.get(name, nothing) != found.get(name, nothing)
    ]
