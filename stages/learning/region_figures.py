"""What to watch while a method trains on regions: how many there are, how many match, whether they are told apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.learning.losses.detcon import same_region

Pair = tuple[Tensor, Tensor]  # of view 1 and view 2


def one_region_a_photo(z: Pair, ids: Pair) -> Pair:
    """Row by row a region that a photo shows in both views, the first one drawn; where there is none, its first draws.

    Health figures (`metrics.health`) take other rows for other photos. Several rows a photo would be wrong there: a
    region drawn again is a copy, and two regions of a photo may be alike for good reasons. An average over all draws
    would be wrong too, as the views show different regions.

    Args:
        z: (N, R, D) embeddings of each view.
        ids: (N, R) integers of each view, the regions they belong to.

    Returns:
        (N, D) of each view, without gradient.
    """
    places = same_region(*ids).flatten(1).int().argmax(dim=1)  # (N,), in R x R; the first of the largest
    regions, photos = ids[0].shape[1], torch.arange(len(places), device=places.device)
    return z[0][photos, places // regions].detach(), z[1][photos, places % regions].detach()


@torch.no_grad()
def region_figures(z: Pair, ids: Pair) -> dict[str, Tensor]:
    """Figures of this process's photos, () float32 each.

    * `regions`: how many different ones are drawn in a view, mean over views.
    * `region_similarity`: mean cosine of two different regions in a view, 0 where no view has two. It nears 1 where all
      regions of a photo get the same embedding: a collapse that figures over photos don't show.

    Args:
        z, ids: as of `one_region_a_photo`.
    """
    every_id, every_z = torch.cat(ids), torch.cat(z)  # (2N, R), (2N, R, D)
    same, real = same_region(every_id, every_id), every_id >= 0
    different = real[:, :, None] & real[:, None, :] & ~same  # (2N, R, R)
    with torch.autocast(every_z.device.type, enabled=False):
        unit = F.normalize(every_z.float(), dim=-1)
        cosines = unit @ unit.transpose(1, 2)
    return {
        "regions": (real / same.sum(dim=2).clamp(min=1)).sum(dim=1).mean(),
        "region_similarity": (different * cosines).sum() / different.sum().clamp(min=1),
    }


@torch.no_grad()
def matched_share(ids: Pair) -> Tensor:
    """Share of the draws of both views whose region was drawn in the other view too. ids: (N, R) each. () float32."""
    pairs = same_region(*ids)
    return torch.cat([pairs.any(dim=2), pairs.any(dim=1)]).float().mean()
