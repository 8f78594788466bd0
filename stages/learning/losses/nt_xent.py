"""NT-Xent, SimCLR's loss: among all other projections, find the one of the same photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.learning.distributed import gather, rank


def nt_xent(z_1: Tensor, z_2: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy of two views, both directions summed.

        l_i = -log( exp(s_ii') / sum_{j != i} exp(s_ij) ),   s_ij = <z_i, z_j> / (|z_i| |z_j| temperature)
        L   = 1/N sum_i l_i

    i runs over the 2N projections of this process, j over the 2WN of all W processes, i' is the other view of i's
    photo. Negatives are thus both views of all other photos everywhere, and the gradient reaches them there (`gather`).

    Source: SimCLR (arXiv:2002.05709), section 2.1 and algorithm 1. The paper divides by 2N, its code
    (google-research/simclr, objective.py) sums the means of both directions. We follow the code, with which the
    published learning rates and decays were found, and so the loss is twice the paper's and lightly's. A recipe that
    was tuned for the mean needs half the learning rate under SGD; under LARS the steps of weights stay as they are,
    except that decay weighs half as much, and those of biases and norms, which LARS does not adapt, double.

    Args:
        z_1: (N, D) projections of the first view, any float type; N the same in each process.
        z_2: (N, D) those of the second view, row by row of the same photos.
        temperature: tau, above 0; 0.1 is the best of the paper (table 5).

    Returns:
        () float32, at least 0; 2 ln(2WN - 1) when all projections are alike.
    """
    with torch.autocast(z_1.device.type, enabled=False):  # half precision would round the logits to a few hundredths
        z = F.normalize(torch.stack([z_1, z_2], dim=1).float(), dim=-1)  # (N, 2, D)
        others = gather(z).flatten(0, 1)  # (2WN, D), the two views of a photo side by side
        z = z.flatten(0, 1)  # (2N, D)
        itself = rank() * len(z) + torch.arange(len(z), device=z.device)  # where row i stands among `others`
        other_view = itself ^ 1  # 0 and 1, 2 and 3, ...
        similarity = (z @ others.T / temperature).scatter(1, itself[:, None], -torch.inf)  # (2N, 2WN)
        return 2 * F.cross_entropy(similarity, other_view)
