"""DetCon's loss written a second time, in float64 and one logit at a time, and draws to test it on."""

from __future__ import annotations

import torch
from torch import Tensor

Latents = tuple[Tensor, Tensor, Tensor, Tensor]  # pred1, pred2, target1, target2
Ids = tuple[Tensor, Tensor]


def by_hand(latents: Latents, ids: Ids, temperature: float, reading: str) -> Tensor:
    p_1, p_2, t_1, t_2 = (x.double() for x in latents)
    i_1, i_2 = (i.tolist() for i in ids)
    direction = {"code": code_direction, "paper": paper_direction}[reading]
    return direction(p_1, t_1, t_2, i_1, i_2, temperature) + direction(p_2, t_2, t_1, i_2, i_1, temperature)


def exp_cosine(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    return torch.exp((a @ b) / torch.sqrt(a @ a) / torch.sqrt(b @ b) / temperature)


def code_direction(p, same, other, ids, other_ids, temperature):
    """deepmind/detcon, utils/losses.py, for the predictions p of one view."""
    photos, regions = len(ids), len(ids[0])
    total = torch.zeros((), dtype=torch.float64)
    for b in range(photos):
        for m in range(regions):
            region = ids[b][m]
            positives = [v for v in range(regions) if region >= 0 and other_ids[b][v] == region]
            if not positives:
                continue
            denominator = 0
            for u in range(photos):
                for v in range(regions):
                    if other_ids[u][v] >= 0:
                        denominator = denominator + exp_cosine(p[b, m], other[u, v], temperature)
                    if ids[u][v] >= 0 and not (u == b and ids[u][v] == region):
                        denominator = denominator + exp_cosine(p[b, m], same[u, v], temperature)
            drawn = sum(1 for v in range(regions) if ids[b][v] == region)
            for v in positives:
                share = exp_cosine(p[b, m], other[b, v], temperature) / denominator
                total = total - torch.log(share) / len(positives) / drawn
    return total / (photos * regions)


def paper_direction(p, same, other, ids, other_ids, temperature):
    """Equations 1 and 3 of DetCon, with the other view's latents as negatives."""
    photos, regions = len(ids), len(ids[0])
    total = torch.zeros((), dtype=torch.float64)
    for b in range(photos):
        for m in range(regions):
            for n in range(regions):
                if ids[b][m] < 0 or ids[b][m] != other_ids[b][n]:
                    continue
                positive = exp_cosine(p[b, m], other[b, n], temperature)
                denominator = positive
                for u in range(photos):
                    for v in range(regions):
                        if other_ids[u][v] >= 0 and not (u == b and other_ids[u][v] == ids[b][m]):
                            denominator = denominator + exp_cosine(p[b, m], other[u, v], temperature)
                total = total - torch.log(positive / denominator)
    return total / (photos * regions)


def draw(
    seed: int, photos: int = 4, regions: int = 5, dim: int = 6, *, least: int = 0, most: int = 4, dtype=torch.float32
) -> tuple[Latents, Ids]:
    """Latents of different lengths, alike where they are of one region; ids in [least, most)."""
    rng = torch.Generator().manual_seed(seed)
    ids = tuple(torch.randint(least, most, (photos, regions), generator=rng, dtype=torch.int32) for _ in range(2))
    prototypes = torch.randn(photos, most - least, dim, generator=rng)
    latents = []
    for number in range(4):
        which = (ids[number % 2] - least).long()[:, :, None].expand(-1, -1, dim)
        noise = torch.randn(photos, regions, dim, generator=rng)
        latents.append((10 ** (number / 3) * (prototypes.gather(1, which) + noise)).to(dtype))
    return tuple(latents), ids
