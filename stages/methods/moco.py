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
from stages.learning.view_heads import ViewHeads, dropped_heads, encoder_of, project, roles


class MoCo(nn.Module):
    """Query encoder f_q and key encoder f_k, its moving average; a query finds its key among a queue of earlier keys.

    What v2 adds is in the settings: a projector of two layers without batch norm, temperature 0.2, "moco" views.

    The paper trains on 8 GPUs of 32 photos each, and shuffling keys between their batch norms is part of the method:
    `batch_norm_groups` is the number of such groups in the whole batch of all processes, whatever their number.

    `swap_roles` is for views that differ in kind: in half of the steps `view_2` asks and `view_1` answers. `two_heads`
    gives both encoders a projector of their own for `view_1`, crops of objects (see `ViewHeads`), and swaps roles too:
    else the query encoder's other projector, the one that is kept, would never learn.
    """

    def __init__(
        self, encoder: Encoder, *, temperature: float, queue_size: int, key_momentum: float, batch_norm_groups: int,
        two_heads: bool = False, swap_roles: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.query_encoder = ViewHeads(encoder) if two_heads else encoder
        split(self.query_encoder, groups_per_process(batch_norm_groups))  # in place
        self.key_encoder = target_of(self.query_encoder)
        self.queue = Queue(queue_size, encoder.dim)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.step: Tensor
        self.temperature = temperature
        self.key_momentum = key_momentum
        self.swap_roles = swap_roles or two_heads

    @property
    def encoder(self) -> Encoder:
        """What the training is for: the query encoder."""
        return encoder_of(self.query_encoder)

    @property
    def dropped(self) -> tuple[str, ...]:
        return ("key encoder", "queue", *dropped_heads(self.query_encoder))

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: `view_1` (queries) and `view_2` (keys) or by turns, (N, 3, S, S) uint8 RGB. The loss: `info_nce`."""
        role = roles(batch["view_1"], batch["view_2"], self.step, swap=self.swap_roles)
        q = project(self.query_encoder, role.queries, role.query_is_object)  # (N, D)
        with torch.no_grad():
            images, order = shuffle(role.keys, self.step)
            keys = unshuffle(project(self.key_encoder, images, role.key_is_object), order)  # (W N, D)
        k = own_rows(keys)  # (N, D)
        loss = info_nce(q, k, self.queue.keys.clone(), self.temperature)
        self.queue.enqueue(keys)
        return Output(loss, {"image": (q.detach(), k)}, {})

    def after_step(self, progress: float) -> dict[str, float]:
        """f_k follows f_q (equation 2). The paper's code does it before each forward pass, which comes to the same."""
        follow(self.key_encoder, self.query_encoder, self.key_momentum)
        self.step += 1
        return {}
