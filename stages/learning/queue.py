"""A queue of keys: negatives that were encoded a while ago, so that there are more of them than a batch holds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Queue(nn.Module):
    """The last `size` keys, first in, first out; random directions at first.

    Attributes:
        keys: (size, dim) float32 of length 1, in no particular order. A buffer, changed in place: clone it for a loss.
        oldest: () int64 in [0, size), the row to be replaced next.

    Source: MoCo (arXiv:1911.05722), section 3.2. Its code asks for a size that is a multiple of the batch; here keys
    that reach the end go on at the start.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))
        self.keys: Tensor
        self.oldest: Tensor

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replaces the oldest keys by these. Give all processes the same ones, or their queues part ways.

        Args:
            keys: (n, dim), oldest first, any float type and length. Of more than `size` the last ones stay.
        """
        size = len(self.keys)
        skipped = max(0, len(keys) - size)
        rows = (self.oldest + torch.arange(skipped, len(keys), device=keys.device)) % size  # on the device: no waiting
        self.keys.index_copy_(0, rows, F.normalize(keys[skipped:].float(), dim=1))
        self.oldest.add_(len(keys)).remainder_(size)
