"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., arXiv:2002.05709)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.learning.encoder import Encoder
from stages.learning.losses.nt_xent import nt_xent
from stages.learning.method import Output
from stages.learning.view_heads import object_projector


class SimCLR(nn.Module):
    """One network for both views; it tells the two of a photo from all others in the batch (algorithm 1).

    Both views pass it together, so that batch norm takes its statistics from 2N images, as in google-research/simclr.
    There batch norm spans all devices too: `batch_norm.synchronize` does that.

    With `two_heads` `view_1`, crops of objects, has a projector of its own (see `ViewHeads`); batch norms of a head
    then see the N images of its view.
    """

    def __init__(self, encoder: Encoder, *, temperature: float, two_heads: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.object_projector = object_projector(encoder) if two_heads else None
        self.temperature = temperature

    @property
    def dropped(self) -> tuple[str, ...]:
        return () if self.object_projector is None else ("object head",)

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: `view_1`, `view_2`, each (N, 3, S, S) uint8 RGB. The loss: see `nt_xent`."""
        y = self.encoder.features(torch.cat([batch["view_1"], batch["view_2"]]))  # (2N, C)
        if self.object_projector is None:
            z_1, z_2 = self.encoder.project(y).chunk(2)  # (N, D)
        else:
            y_1, y_2 = y.chunk(2)
            z_1, z_2 = self.object_projector(y_1), self.encoder.project(y_2)  # (N, D)
        return Output(nt_xent(z_1, z_2, self.temperature), {"image": (z_1.detach(), z_2.detach())}, {})

    def after_step(self, progress: float) -> dict[str, float]:
        """Nothing follows the network."""
        return {}
