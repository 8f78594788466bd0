"""BYOL: Bootstrap Your Own Latent (Grill et al. 2020, arXiv:2006.07733), as ORL's first stage uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stages.learning.ema import follow, target_of
from stages.learning.encoder import Encoder
from stages.learning.heads import mlp
from stages.learning.losses.regression import regression_loss
from stages.learning.method import Output
from stages.learning.schedules import target_tau
from stages.learning.view_heads import ViewHeads, dropped_heads, encoder_of, project


def bootstrap(
    online: nn.Module, target: nn.Module, predictor: nn.Module, view_1: Tensor, view_2: Tensor,
    small: Sequence[Tensor] = (),
) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # fmt: skip
    """BYOL's symmetric loss of two views, algorithm 1 of the paper without the updates.

    Each view passes each network by itself, so batch norm never mixes views (official ORL code, byol.py).

    Small views only predict: each of them both targets, which come from the large views alone (SwAV, arXiv:2006.09882,
    section 3.2). A target's loss is the mean over the views that predict it, as in SwAV's code, so that the loss keeps
    its range and a learning rate found for two views stays right:

        L = sum_t 1/(1 + n) sum_(v != t) l(q(z_v), t),   t in {1, 2}, v over the other large and the n small views

    Args:
        online: g_theta(f_theta(.)), images to projections.
        target: g_xi(f_xi(.)), the same architecture; takes no gradient.
        predictor: q_theta(.), projections to predictions.
        view_1: (N, 3, S, S) uint8 RGB.
        view_2: (N, 3, S, S) uint8 RGB, other views of the same content, row by row.
        small: n batches of smaller views of the same, (N, 3, s, s) uint8 RGB.

    Returns:
        The loss, () float32 in [0, 8], and the online projections (N, D) of both views without gradient.
    """
    z_1, z_2 = project(online, view_1, True), project(online, view_2, False)  # (N, D)
    with torch.no_grad():
        t_1, t_2 = project(target, view_1, True), project(target, view_2, False)  # (N, D)
    loss = regression_loss(predictor(z_1), t_2) + regression_loss(predictor(z_2), t_1)
    for view in small:
        prediction = predictor(project(online, view, False))  # (N, D)
        loss = loss + regression_loss(prediction, t_1) + regression_loss(prediction, t_2)
    return loss / (1 + len(small)), (z_1.detach(), z_2.detach())


class BYOL(nn.Module):
    """Online encoder and predictor (theta), target encoder (xi). Predicts the target's projection of the other view.

    With `two_heads` both networks have a projector of their own for `view_1`, crops of objects (see `ViewHeads`). The
    predictor stays one: both heads project into the one space in which it predicts.

    `small_views` counts the small views of a photo, multi-crop BYOL (ORL, table 5c: 4 of 96 pixels).
    """

    def __init__(
        self, encoder: Encoder, *, predictor_hidden: int, tau: float, two_heads: bool = False, small_views: int = 0
    ) -> None:
        super().__init__()
        self.online = ViewHeads(encoder) if two_heads else encoder
        self.predictor = mlp(encoder.dim, predictor_hidden, encoder.dim)
        self.target = target_of(self.online)
        self.tau_0 = tau
        self.small = [f"small_{number}" for number in range(1, small_views + 1)]

    @property
    def encoder(self) -> Encoder:
        """What the training is for: the online network without its predictor."""
        return encoder_of(self.online)

    @property
    def dropped(self) -> tuple[str, ...]:
        return ("predictor", "target network", *dropped_heads(self.online))

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: `view_1`, `view_2`, each (N, 3, S, S) uint8 RGB; `small_1` and so on, (N, 3, s, s). Loss in [0, 8]."""
        small = [batch[name] for name in self.small]
        loss, embeddings = bootstrap(self.online, self.target, self.predictor, batch["view_1"], batch["view_2"], small)
        return Output(loss, {"image": embeddings}, {})

    def after_step(self, progress: float) -> dict[str, float]:
        """The target follows; call it after each optimizer step. progress: share of the steps done before this one."""
        tau = target_tau(progress, self.tau_0)
        follow(self.target, self.online, tau)
        return {"tau": tau}
