"""Checkpoints: everything a training needs to go on as if it had never stopped, and stopping in good order."""

from __future__ import annotations

import json
import os
import signal
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor, nn

CHECKPOINT_FILE = Path("scratch", "checkpoint.pt")
_SHOWN_DIFFERENCES = 10


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `step` steps.

    Attributes:
        settings: what decides the course of the training, as JSON values.
        step: steps taken.
        seconds: time spent on them, all attempts together.
        method: parameters and buffers of all its networks.
        optimizer: state of the optimizer.
        rng: state of PyTorch's generator on the CPU. Views have generators of their own (`stages.data.views`).
    """

    settings: Mapping[str, Any]
    step: int
    seconds: float
    method: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    rng: Tensor

    def save(self, out: Path) -> None:
        """Writes `out/scratch/checkpoint.pt`. A crash at any moment leaves the former file or this one, whole."""
        path = out / CHECKPOINT_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        with draft.open("wb") as file:
            torch.save({**vars(self), "settings": _plain(self.settings)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, has to reach the disk
        finally:
            os.close(folder)

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

    def restore(self, settings: Mapping[str, Any], method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Puts the state into `method` and `optimizer`. The generator is left to `restore_rng`.

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

    def restore_rng(self) -> None:
        """Call it right before the first step: making a network or a DataLoader also draws from the generator."""
        torch.set_rng_state(self.rng)


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

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


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
