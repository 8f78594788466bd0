"""ORL: Unsupervised Object-Level Representation Learning from Scene Images (Xie et al. 2021, arXiv:2106.11952)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.learning.ema import follow, target_of
from stages.learning.encoder import Encoder
from stages.learning.heads import mlp
from stages.learning.method import Output
from stages.learning.schedules import target_tau
from stages.methods.byol import bootstrap

# The two views between which each part of the loss predicts.
PARTS = {
    "image": ("view_1", "view_2"),  # two crops of the whole photo
    "intra": ("intra_1", "intra_2"),  # one RoI and its jittered self
    "inter": ("inter_1", "inter_2"),  # a RoI and its counterpart in a similar photo
}


class ORL(nn.Module):
    """BYOL three times over: between images, within RoIs and between RoIs of different photos (section 3.3, figure 2).

        L = lambda_image L_image + lambda_intra L_intra + lambda_inter L_inter

    Backbone, projector and their targets are shared; each part has a predictor of its own. A part of weight 0 is left
    out: its views are not looked at and it has no predictor.
    """

    def __init__(self, encoder: Encoder, *, predictor_hidden: int, tau: float, weights: Mapping[str, float]) -> None:
        super().__init__()
        if set(weights) != set(PARTS) or min(weights.values()) < 0 or max(weights.values()) == 0:
            raise ValueError(
                f"loss weights {dict(weights)}: give one for each of {', '.join(PARTS)}, none below 0, one above 0"
            )
        self.weights = {part: weights[part] for part in PARTS if weights[part] > 0}
        self.online = encoder
        self.predictors = nn.ModuleDict(
            {part: mlp(encoder.dim, predictor_hidden, encoder.dim) for part in self.weights}
        )
        self.target = target_of(encoder)
        self.tau_0 = tau

    @property
    def encoder(self) -> Encoder:
        """What the training is for: the online network without its predictors."""
        return self.online

    @property
    def dropped(self) -> tuple[str, ...]:
        return ("predictors", "target network")

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: the views named in PARTS, each (N, 3, S, S) uint8 RGB; the size S is the same within a part.

        The loss lies in [0, 8 * sum of weights]; `figures` has each part of it before weighting.
        """
        losses, embeddings = {}, {}
        for part, predictor in self.predictors.items():
            first, second = PARTS[part]
            losses[part], embeddings[part] = bootstrap(self.online, self.target, predictor, batch[first], batch[second])
        loss = torch.stack([weight * losses[part] for part, weight in self.weights.items()]).sum()
        return Output(loss, embeddings, {f"loss_{part}": value.detach() for part, value in losses.items()})

    def after_step(self, progress: float) -> dict[str, float]:
        """The target follows; call it after each optimizer step. progress: share of the steps done before this one."""
        tau = target_tau(progress, self.tau_0)
        follow(self.target, self.online, tau)
        return {"tau": tau}
