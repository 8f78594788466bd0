"""InfoNCE against a queue, MoCo's loss: tell the key of the same photo from the keys of earlier ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross entropy of picking each query's key among that key and the queue, one direction, averaged.

        L = 1/M sum_m -log( exp(p_m) / (exp(p_m) + sum_n exp(s_mn)) )
        p_m = <q_m, k_m> / (|q_m| |k_m| temperature),   s_mn = <q_m, u_n> / (|q_m| temperature)

    No gradient flows into the keys k and u. Takes about 2 M K floats of memory: 7 GB for the 256 x 49 places of DenseCL
    against 65,536 keys in one process.

    Source: MoCo (arXiv:1911.05722), equation 1 and algorithm 1.

    Args:
        q: (M, D) queries, any float type.
        k: (M, D) the key of each query.
        queue: (K, D) float32, the keys u_n of earlier photos, of length 1.
        temperature: tau, above 0; MoCo v2 and DenseCL take 0.2.

    Returns:
        () float32, at least 0; ln(K + 1) when all keys are alike.
    """
    with torch.autocast(q.device.type, enabled=False):  # half precision would round the logits to a few hundredths
        q = F.normalize(q.float(), dim=-1) / temperature
        k = F.normalize(k.detach().float(), dim=-1)
        positive = (q * k).sum(dim=-1)  # (M,)
        negative = torch.logsumexp(q @ queue.detach().T, dim=1)  # (M,), without a copy of the (M, K) for the positive
        return F.softplus(negative - positive).mean()  # -log(e^p / (e^p + e^n)) = log(1 + e^(n - p))
