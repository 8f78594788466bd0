"""What the training loop needs of a method, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from stages.learning.encoder import Encoder


class Output(NamedTuple):
    """What a method makes of one batch.

    Attributes:
        loss: () float32, the mean over the rows of this process.
        embeddings: part -> (N, D) online embeddings of its two views, row by row of the same photos, without gradient.
            Image-level methods have the one part "image". Health figures are computed from them.
        figures: () more to log, under the names of the log.
    """

    loss: Tensor
    embeddings: dict[str, tuple[Tensor, Tensor]]
    figures: dict[str, Tensor]


class Method(Protocol):
    """An `nn.Module` with a loss, an update of its own, and an encoder that the training is for."""

    @property
    def encoder(self) -> Encoder:
        """Backbone and projector that learned by gradient; what is saved."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """What the training needed beside the encoder and what is left behind, in words."""

    def __call__(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: name of a view -> (N, 3, S, S) uint8 RGB; with some policies also tables that belong to the views."""

    def after_step(self, progress: float) -> dict[str, float]:
        """Called after each optimizer step; `progress` is the share of the steps done before it. Figures to log."""
