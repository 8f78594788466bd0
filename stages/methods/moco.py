"""MoCo v2: Momentum Contrast (He et al. 2020, arXiv:1911.05722), improved (Chen et al. 2020, arXiv:2003.04297)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.learning.batch_norm import split
from stages.learning.ema import follow, target_of
from stages.learning.encoder import Encoder
from stages.learning.losses.info_nce import info_nce
from stages.learning.method import Output
from stages.learning.queue import Queue
from stages.learning.shuffle import groups_per_process, own_rows, shuffle, unshuffle


class MoCo(nn.Module):
    """Query encoder f_q and key encoder f_k, its moving average; a query finds its key among a queue of earlier keys.

    What v2 adds is in the settings: a projector of two layers without batch norm, temperature 0.2, "moco" views.

    The paper trains on 8 GPUs of 32 photos each, and shuffling keys between their batch norms is part of the method:
    `batch_norm_groups` is the number of such groups in the whole batch of all processes, whatever their number.
    """

    def __init__(
        self, encoder: Encoder, *, temperature: float, queue_size: int, key_momentum: float, batch_norm_groups: int
    ) -> None:
        super().__init__()
        split(encoder, groups_per_process(batch_norm_groups))  # in place
        self.encoder = encoder
        self.key_encoder = target_of(encoder)
        self.queue = Queue(queue_size, encoder.dim)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.step: Tensor
        self.temperature = temperature
        self.key_momentum = key_momentum

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: `view_1` (queries), `view_2` (keys), each (N, 3, S, S) uint8 RGB. The loss: see `info_nce`."""
        q = self.encoder(batch["view_1"])  # (N, D)
        with torch.no_grad():
            images, order = shuffle(batch["view_2"], self.step)
            keys = unshuffle(self.key_encoder(images), order)  # (W N, D)
        k = own_rows(keys)  # (N, D)
        loss = info_nce(q, k, self.queue.keys.clone(), self.temperature)
        self.queue.enqueue(keys)
        return Output(loss, {"image": (q.detach(), k)}, {})

    def after_step(self, progress: float) -> dict[str, float]:
        """f_k follows f_q (equation 2). The paper's code does it before each forward pass, which comes to the same."""
        follow(self.key_encoder, self.encoder, self.key_momentum)
        self.step += 1
        return {}
