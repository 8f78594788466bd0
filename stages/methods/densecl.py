"""DenseCL: Dense Contrastive Learning for Self-Supervised Visual Pre-Training (Wang et al. 2021, arXiv:2011.09157)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.learning.batch_norm import split
from stages.learning.ema import follow, target_of
from stages.learning.encoder import Encoder
from stages.learning.losses.dense_info_nce import correspondence, dense_info_nce
from stages.learning.losses.info_nce import info_nce
from stages.learning.method import Output
from stages.learning.queue import Queue
from stages.learning.shuffle import groups_per_process, own_rows, shuffle, unshuffle
from stages.learning.view_heads import by_head, object_projector, roles


class GlobalAndDense(nn.Module):
    """A backbone with the encoder's projector on its pooled map and a dense head, as wide, on each place of the map.

    With `two_heads` the pooled map has a second projector for crops of objects, as in `ViewHeads`. The dense head stays
    one: a place is as much of an object whichever crop it lies in, and what it is matched with shows the same thing.
    """

    def __init__(self, encoder: Encoder, two_heads: bool = False) -> None:
        super().__init__()
        channels, hidden = encoder.backbone.channels, int(encoder.settings["projector_hidden"])
        self.encoder = encoder
        self.dense_head = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, encoder.dim, 1)
        )
        self.object_projector = object_projector(encoder) if two_heads else None

    def forward(self, images: Tensor, is_object: bool | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """images: (N, 3, H, W) uint8 RGB; is_object: see `by_head`. Returns global (N, D) and dense (N, L, D)
        projections, and features (N, L, C) of the L places, which come from one pass of the backbone."""
        feature_map = self.encoder.backbone(images)  # (N, C, h, w)
        y = feature_map.float().mean(dim=(2, 3))  # (N, C)
        scene_head, object_head = self.encoder.projector, self.object_projector
        z = scene_head(y) if object_head is None else by_head(y, is_object, object_head, scene_head)  # (N, D)
        dense = self.dense_head(feature_map)  # (N, D, h, w)
        return z, dense.flatten(2).transpose(1, 2), feature_map.flatten(2).transpose(1, 2)


class DenseCL(nn.Module):
    """MoCo v2 for the photo and, in parallel, for each place of the feature map, with a queue for each (section 3).

        L = (1 - lambda) L_global + lambda L_dense

    The positive of a place is the dense projection of that place of the other view whose backbone feature is the most
    similar; the dense queue holds averages of the dense keys over a photo. lambda is 0 for the first
    `dense_warmup_steps` steps, while features may be too random to be matched: a hook of the official code, which none
    of its published configurations uses. `batch_norm_groups` and `swap_roles`: see `MoCo`, also for why `two_heads`,
    of the global projector, swaps roles too.
    """

    def __init__(
        self, encoder: Encoder, *, temperature: float, queue_size: int, key_momentum: float, batch_norm_groups: int,
        dense_weight: float, dense_warmup_steps: int, two_heads: bool = False, swap_roles: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.query = GlobalAndDense(encoder, two_heads)
        split(self.query, groups_per_process(batch_norm_groups))  # in place
        self.key = target_of(self.query)
        self.queue = Queue(queue_size, encoder.dim)
        self.dense_queue = Queue(queue_size, encoder.dim)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.step: Tensor
        self.temperature = temperature
        self.key_momentum = key_momentum
        self.dense_weight = dense_weight
        self.dense_warmup_steps = dense_warmup_steps
        self.swap_roles = swap_roles or two_heads

    @property
    def encoder(self) -> Encoder:
        """What the training is for: the query network without its dense head."""
        return self.query.encoder

    @property
    def dropped(self) -> tuple[str, ...]:
        heads = ("dense head",) if self.query.object_projector is None else ("dense head", "object head")
        return (*heads, "key network", "queues")

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: `view_1` (queries) and `view_2` (keys) or by turns, (N, 3, S, S) uint8 RGB. Logs both losses."""
        role = roles(batch["view_1"], batch["view_2"], self.step, swap=self.swap_roles)
        q, q_dense, q_features = self.query(role.queries, role.query_is_object)  # (N, D), (N, L, D), (N, L, C)
        with torch.no_grad():
            images, order = shuffle(role.keys, self.step)
            encoded = self.key(images, role.key_is_object)
            keys, dense_keys, features = (unshuffle(x, order) for x in encoded)  # of all processes: W N rows
        k = own_rows(keys)
        loss_global = info_nce(q, k, self.queue.keys.clone(), self.temperature)
        places = correspondence(q_features, own_rows(features))  # (N, L)
        negatives = self.dense_queue.keys.clone()
        loss_dense = dense_info_nce(q_dense, own_rows(dense_keys), places, negatives, self.temperature)
        self.queue.enqueue(keys)
        self.dense_queue.enqueue(dense_keys.float().mean(dim=1))

        weight = torch.where(self.step < self.dense_warmup_steps, 0.0, self.dense_weight)
        loss = (1 - weight) * loss_global + weight * loss_dense
        figures = {"loss_global": loss_global.detach(), "loss_dense": loss_dense.detach()}
        return Output(loss, {"image": (q.detach(), k)}, figures)

    def after_step(self, progress: float) -> dict[str, float]:
        """The key network with both heads follows, see `MoCo.after_step`."""
        follow(self.key, self.query, self.key_momentum)
        self.step += 1
        return {}
