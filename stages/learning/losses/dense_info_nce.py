"""DenseCL's dense loss: InfoNCE of each place in a feature map with the most similar place in the other view."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.learning.losses.info_nce import info_nce


@torch.no_grad()
def correspondence(features_q: Tensor, features_k: Tensor) -> Tensor:
    """For each place of one view the place of the other view whose backbone feature is the most similar by cosine.

        c(i) = argmax_j <f_i, f'_j> / (|f_i| |f'_j|)

    Source: DenseCL (arXiv:2011.09157), section 3, dense correspondence across views; densecl.py of its official code.

    Args:
        features_q: (N, L, C) backbone features f of a view, one row a place, any float type.
        features_k: (N, L', C) those of the other view, f'.

    Returns:
        (N, L) int64 in [0, L'); of equals the first.
    """
    with torch.autocast(features_q.device.type, enabled=False):
        unit_k = F.normalize(features_k.float(), dim=-1)  # the length of f_i changes nothing for the argmax
        return (features_q.float() @ unit_k.transpose(1, 2)).argmax(dim=2)


def dense_info_nce(q: Tensor, k: Tensor, places: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """`info_nce` of all N L places: the positive of place i is the other view's projection at place c(i).

    Source: DenseCL (arXiv:2011.09157), section 3, dense contrastive learning.

    Args:
        q: (N, L, D) dense projections of a view, any float type.
        k: (N, L', D) the other view's, by the key network.
        places: (N, L) int64, c(i) from `correspondence`.
        queue: (K, D) float32 dense keys of earlier photos, of length 1.
        temperature: tau, above 0.

    Returns:
        () float32, at least 0.
    """
    positives = k.take_along_dim(places[:, :, None], dim=1)  # (N, L, D)
    return info_nce(q.flatten(0, 1), positives.flatten(0, 1), queue, temperature)
