"""BYOL: Bootstrap Your Own Latent (Grill et al. 2020, arXiv:2006.07733), as ORL's first stage uses it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.learning.ema import follow, target_of
from stages.learning.encoder import Encoder
from stages.learning.heads import mlp
from stages.learning.losses.regression import regression_loss
from stages.learning.method import Output
from stages.learning.schedules import target_tau


def bootstrap(
    online: nn.Module, target: nn.Module, predictor: nn.Module, view_1: Tensor, view_2: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """BYOL's symmetric loss of two views, algorithm 1 of the paper without the updates.

    Each view passes each network by itself, so batch norm never mixes views (official ORL code, byol.py).

    Args:
        online: g_theta(f_theta(.)), images to projections.
        target: g_xi(f_xi(.)), the same architecture; takes no gradient.
        predictor: q_theta(.), projections to predictions.
        view_1: (N, 3, S, S) uint8 RGB.
        view_2: (N, 3, S, S) uint8 RGB, other views of the same content, row by row.

    Returns:
        The loss, () float32 in [0, 8], and the online projections (N, D) of both views without gradient.
    """
    z_1, z_2 = online(view_1), online(view_2)  # (N, D)
    with torch.no_grad():
        t_1, t_2 = target(view_1), target(view_2)  # (N, D)
    loss = regression_loss(predictor(z_1), t_2) + regression_loss(predictor(z_2), t_1)
    return loss, (z_1.detach(), z_2.detach())


class BYOL(nn.Module):
    """Online encoder and predictor (theta), target encoder (xi). Predicts the target's projection of the other view."""

    def __init__(self, encoder: Encoder, *, predictor_hidden: int, tau: float) -> None:
        super().__init__()
        self.online = encoder
        self.predictor = mlp(encoder.dim, predictor_hidden, encoder.dim)
        self.target = target_of(encoder)
        self.tau_0 = tau

    @property
    def encoder(self) -> Encoder:
        """What the training is for: the online network without its predictor."""
        return self.online

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: `view_1`, `view_2`, each (N, 3, S, S) uint8 RGB. The loss lies in [0, 8]."""
        loss, embeddings = bootstrap(self.online, self.target, self.predictor, batch["view_1"], batch["view_2"])
        return Output(loss, {"image": embeddings}, {})

    def after_step(self, progress: float) -> dict[str, float]:
        """The target follows; call it after each optimizer step. progress: share of the steps done before this one."""
        tau = target_tau(progress, self.tau_0)
        follow(self.target, self.online, tau)
        return {"tau": tau}
