"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., arXiv:2002.05709)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.learning.encoder import Encoder
from stages.learning.losses.nt_xent import nt_xent
from stages.learning.method import Output


class SimCLR(nn.Module):
    """One network for both views; it tells the two of a photo from all others in the batch (algorithm 1).

    Both views pass it together, so that batch norm takes its statistics from 2N images, as in google-research/simclr.
    There batch norm spans all devices too: `batch_norm.synchronize` does that.
    """

    def __init__(self, encoder: Encoder, *, temperature: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.temperature = temperature

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: `view_1`, `view_2`, each (N, 3, S, S) uint8 RGB. The loss: see `nt_xent`."""
        z = self.encoder(torch.cat([batch["view_1"], batch["view_2"]]))  # (2N, D)
        z_1, z_2 = z.chunk(2)
        return Output(nt_xent(z_1, z_2, self.temperature), {"image": (z_1.detach(), z_2.detach())}, {})

    def after_step(self, progress: float) -> dict[str, float]:
        """Nothing follows the network."""
        return {}
