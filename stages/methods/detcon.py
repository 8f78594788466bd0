"""DetCon_S and DetCon_B: Efficient Visual Pretraining with Contrastive Detection (Henaff et al., arXiv:2103.10957)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from stages.learning.ema import follow, target_of
from stages.learning.encoder import Encoder
from stages.learning.heads import mlp
from stages.learning.losses.detcon import Negatives, Reading, detcon_loss
from stages.learning.method import Output
from stages.learning.region_figures import Pair, matched_share, one_region_a_photo, region_figures
from stages.learning.region_pooling import pool_regions
from stages.learning.schedules import target_tau

Views = Literal["two", "one"]


class DetConS(nn.Module):
    """SimCLR on regions: one network for both views, which pass it together; the gradient flows through both sides.

    The projector takes each region by itself, its batch norms their statistics from all 2 N R of them.

    Args:
        temperature, reading, negatives: see `detcon_loss`.
        views: see `contrast`.
    """

    def __init__(
        self, encoder: Encoder, *, temperature: float, reading: Reading, negatives: Negatives, views: Views
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.contrast = partial(contrast, temperature=temperature, reading=reading, negatives=negatives, views=views)

    @property
    def dropped(self) -> tuple[str, ...]:
        return ()

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: of each of `view_1` and `view_2` the images (N, 3, S, S) uint8 RGB, the cells of R regions of each,
        `view_1_masks` (N, R, G, G) float32, on the backbone's G x G map, and their numbers `view_1_ids` (N, R)."""
        images, masks = (torch.cat([batch[f"view_1{kind}"], batch[f"view_2{kind}"]]) for kind in ("", "_masks"))
        z_1, z_2 = project_regions(self.encoder, images, masks).chunk(2)  # (N, R, D)
        ids = batch["view_1_ids"], batch["view_2_ids"]
        return self.contrast((z_1, z_2), (z_1, z_2), (z_1, z_2), ids)

    def after_step(self, progress: float) -> dict[str, float]:
        """Nothing follows the network."""
        return {}


class DetConB(nn.Module):
    """BYOL on regions: q(g(h_m)) of the online network finds the target network's g(h'_m), among negatives.

    As in `BYOL` each view passes each network by itself. Projector and predictor take each region by itself.

    Args:
        predictor_hidden, tau: see `BYOL`.
        temperature, reading, negatives: see `detcon_loss`.
        views: see `contrast`.
    """

    def __init__(
        self, encoder: Encoder, *, predictor_hidden: int, tau: float, temperature: float, reading: Reading,
        negatives: Negatives, views: Views,
    ) -> None:  # fmt: skip
        super().__init__()
        self.online = encoder
        self.predictor = mlp(encoder.dim, predictor_hidden, encoder.dim)
        self.target = target_of(encoder)
        self.tau_0 = tau
        self.contrast = partial(contrast, temperature=temperature, reading=reading, negatives=negatives, views=views)

    @property
    def encoder(self) -> Encoder:
        """What the training is for: the online network without its predictor."""
        return self.online

    @property
    def dropped(self) -> tuple[str, ...]:
        return ("predictor", "target network")

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: see `DetConS.forward`."""
        inputs = [(batch[view], batch[f"{view}_masks"]) for view in ("view_1", "view_2")]
        z_1, z_2 = (project_regions(self.online, *view) for view in inputs)  # (N, R, D)
        with torch.no_grad():
            t_1, t_2 = (project_regions(self.target, *view) for view in inputs)  # (N, R, D)
        p_1, p_2 = (self.predictor(z.flatten(0, 1)).view_as(z) for z in (z_1, z_2))  # (N, R, D)
        ids = batch["view_1_ids"], batch["view_2_ids"]
        return self.contrast((p_1, p_2), (t_1, t_2), (z_1, z_2), ids)

    def after_step(self, progress: float) -> dict[str, float]:
        """The target follows; call it after each optimizer step. progress: share of the steps done before this one."""
        tau = target_tau(progress, self.tau_0)
        follow(self.target, self.online, tau)
        return {"tau": tau}


def project_regions(encoder: Encoder, images: Tensor, masks: Tensor) -> Tensor:
    """z_m = g(h_m), not normalised. images: (N, 3, S, S) uint8 RGB, masks: (N, R, G, G). Returns (N, R, D)."""
    h = pool_regions(encoder.backbone(images), masks)  # (N, R, C)
    return encoder.project(h.flatten(0, 1)).unflatten(0, masks.shape[:2])


def contrast(preds: Pair, targets: Pair, embeddings: Pair, ids: Pair, *, views: Views, **how: Any) -> Output:
    """The loss, and what to log of it.

    `views="one"` (table 5, row b) looks for a region within a view instead of across augmentations. Each view's draws
    fall into two halves, independent draws of R/2 regions of it, which take the places of the two views; the loss is
    the mean of both views'. Images, augmentations, latents and the scale of the loss stay those of "two". No latent is
    in both halves, so none is its own positive. But a region has one mean: drawn in both halves it is the same vector
    twice, DetCon_S learns from the negatives alone, and only DetCon_B has something to predict. The paper's features
    of section 4.4 are of places drawn within the region: with masks of a single cell the two draws differ.
    """
    draws = [_drawn_twice(pair, views) for pair in (preds, targets, ids)]
    losses = [detcon_loss(*p, *t, *i, **how) for p, t, i in zip(*draws, strict=True)]
    figures = {"matched": torch.stack([matched_share(pair) for pair in draws[2]]).mean()}
    return Output(
        torch.stack(losses).mean(),
        {"image": one_region_a_photo(embeddings, ids)},
        figures | region_figures(embeddings, ids),
    )


def _drawn_twice(x: Pair, views: Views) -> list[Pair]:
    """What the loss gets as two draws of each photo's regions: (N, R, ...) of both views, or the halves of each."""
    if views not in get_args(Views):
        raise ValueError(f"views '{views}' of DetCon is not known. Choose {' or '.join(get_args(Views))}.")
    if views == "two":
        return [x]
    regions = x[0].shape[1]
    if regions % 2:
        raise ValueError(f"views 'one' needs two equal halves of the regions, which {regions} don't have: draw 16.")
    return [(view[:, : regions // 2], view[:, regions // 2 :]) for view in x]
