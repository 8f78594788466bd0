"""BYOL's regression loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """BYOL's loss in one direction: the squared distance of two unit vectors, averaged over the batch.

        L = || q/|q| - z'/|z'| ||^2  =  2 - 2 <q, z'> / (|q| |z'|)

    No gradient flows into z'. The symmetric loss of two views is the *sum* of both directions.

    Source: BYOL (arXiv:2006.07733), section 3.1, equation 2; the sum over directions as in the text below it.

    Args:
        prediction: (N, D) q, what the online network predicts from one view; any float type.
        target: (N, D) z', the target network's projection of the other view.

    Returns:
        () float32 in [0, 4]: 0 when all pairs agree, 2 when they are orthogonal.
    """
    q = F.normalize(prediction.float(), dim=-1)
    z = F.normalize(target.detach().float(), dim=-1)
    return 2 - 2 * (q * z).sum(dim=-1).mean()
