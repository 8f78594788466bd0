"""How long and how fast a classifier learns, in the words of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from stages.evaluation.tasks.schedules import cosine, multi_step
from stages.learning.optimizers import scaled_lr
from stages.learning.schedules import steps

SCHEDULES = ("drops", "cosine")
# How a training runs, but not where it goes: a checkpoint made with others still fits.
_RUNTIME = {"checkpoint_minutes", "log_every"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """
    Attributes:
        epochs: duration, see `stages.learning.schedules.steps`.
        schedule: "drops": the rate is multiplied by `drop_factor` at each of the durations in `drops`. "cosine": half a
            cosine down to 0, which reads neither.
        batch_size: photos a step, over all processes.
        base_lr: learning rate at batch 256, see `scaled_lr`.
        momentum, nesterov, weight_decay: of SGD.
        precision, log_every, checkpoint_minutes: see `train_task`.
    """

    epochs: str
    schedule: str
    drops: Sequence[str]
    drop_factor: float
    batch_size: int
    base_lr: float
    momentum: float
    nesterov: bool
    weight_decay: float
    precision: str
    log_every: int
    checkpoint_minutes: float

    @property
    def lr(self) -> float:
        return scaled_lr(self.base_lr, self.batch_size)

    def steps(self, photos: int) -> int:
        return max(1, self._steps(self.epochs, photos))

    def factor(self, photos: int) -> Callable[[int], float]:
        """The `schedule` of `train_task`.

        Raises:
            ValueError: there is no such schedule.
        """
        if self.schedule == "cosine":
            return partial(cosine, total=self.steps(photos))
        if self.schedule != "drops":
            raise ValueError(f"schedule '{self.schedule}' is not known. Choose one of {', '.join(SCHEDULES)}.")
        drops = [self._steps(drop, photos) for drop in self.drops]
        return partial(multi_step, drops=drops, factor=self.drop_factor)

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the course of the training, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name not in _RUNTIME}

    def _steps(self, duration: str, photos: int) -> int:
        return steps(duration, images=photos, batch_size=self.batch_size)
