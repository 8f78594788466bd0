"""The settings of a training that do not depend on its method."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from stages.data.render import Interpolation
from stages.learning.optimizers import scaled_lr
from stages.learning.schedules import Schedule, steps

# How a training runs, but not where it goes: a checkpoint made with others still fits.
_RUNTIME = {"compile", "checkpoint_minutes", "max_unreadable", "device", "workers"}


@dataclass(frozen=True, kw_only=True)
class Training:
    """
    Attributes:
        epochs, warmup, keep_every: durations, see `schedules.steps`. Each `keep_every` a checkpoint and the encoder are
            kept; None keeps the last alone.
        batch_size: photos in a step, of all processes together.
        accumulate: parts of a process's share that pass the network one after the other. Losses are averaged, and there
            is one optimizer step, one EMA update and one place in every schedule. Batch norm and negatives see a part.
        optimizer, momentum, weight_decay: see `optimizers.make_optimizer`.
        base_lr: learning rate at batch 256, see `optimizers.scaled_lr`.
        schedule: see `schedules.learning_rate`.
        clip_norm: gradients together longer than this are shortened to it; None leaves them.
        sync_batch_norm: batch norms use the statistics of all processes.
        precision: "fp32", "bf16", "fp16" or "auto", see `devices.resolve_precision`.
        compile: with torch.compile.
        renderer, interpolation, scaled_decode: see `loading.training_loader`.
        log_every: steps between two lines of metrics.jsonl.
        checkpoint_minutes: time between two checkpoints.
        max_unreadable: share of the photos that may turn unreadable before the training stops.
        device: "cpu", "cuda", "cuda:1", "auto".
        workers: processes of each training process that decode and draw; 0 draws in the training process.
    """

    epochs: str
    warmup: str
    batch_size: int
    accumulate: int
    optimizer: str
    base_lr: float
    momentum: float
    weight_decay: float
    schedule: Schedule
    clip_norm: float | None
    sync_batch_norm: bool
    precision: str
    compile: bool
    renderer: Literal["cpu", "device"]
    interpolation: Interpolation
    scaled_decode: bool
    log_every: int
    checkpoint_minutes: float
    keep_every: str | None
    max_unreadable: float
    seed: int
    device: str
    workers: int

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the course of the training, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name not in _RUNTIME}

    def steps(self, duration: str, images: int) -> int:
        """`duration` in optimizer steps, for a data set of `images` photos."""
        return steps(duration, images=images, batch_size=self.batch_size)

    @property
    def peak_lr(self) -> float:
        return scaled_lr(self.base_lr, self.batch_size)

    def check_batch(self, processes: int) -> None:
        """Raises ValueError unless each part of each process gets the same number of photos, and at least 2."""
        parts = processes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} can't be divided among {processes} processes with accumulate "
                f"{self.accumulate}: it must be a multiple of {parts}. Near it: {self._multiples(parts)}."
            )
        if self.batch_size < 2 * parts:
            raise ValueError(
                f"batch_size {self.batch_size} with {processes} processes and accumulate {self.accumulate} leaves 1 "
                "photo a part: batch norm needs at least 2, and learns well from 32 on. Raise batch_size to "
                f"{2 * parts} or more, or lower accumulate or run.processes."
            )

    def _multiples(self, parts: int) -> str:
        below = self.batch_size // parts * parts
        return " or ".join(str(multiple) for multiple in (below, below + parts) if multiple >= 2 * parts)
