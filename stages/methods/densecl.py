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


class TwoHeads(nn.Module):
    """A backbone with the encoder's projector on its pooled map and a dense head, as wide, on each place of the map."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        channels, hidden = encoder.backbone.channels, int(encoder.settings["projector_hidden"])
        self.encoder = encoder
        self.dense_head = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, encoder.dim, 1)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """images: (N, 3, H, W) uint8 RGB. Returns global (N, D) and dense (N, L, D) projections, and features (N, L, C)
        of the L places, which come from one pass of the backbone."""
        feature_map = self.encoder.backbone(images)  # (N, C, h, w)
        z = self.encoder.project(feature_map.float().mean(dim=(2, 3)))  # (N, D)
        dense = self.dense_head(feature_map)  # (N, D, h, w)
        return z, dense.flatten(2).transpose(1, 2), feature_map.flatten(2).transpose(1, 2)


class DenseCL(nn.Module):
    """MoCo v2 for the photo and, in parallel, for each place of the feature map, with a queue for each (section 3).

        L = (1 - lambda) L_global + lambda L_dense

    The positive of a place is the dense projection of that place of the other view whose backbone feature is the most
    similar; the dense queue holds averages of the dense keys over a photo. lambda is 0 for the first
    `dense_warmup_steps` steps, while features may be too random to be matched: a hook of the official code, which none
    of its published configurations uses. `batch_norm_groups`: see `MoCo`.

    Only the encoder, backbone and global projector, is what the training is for: the dense head is dropped with it.
    """

    def __init__(
        self, encoder: Encoder, *, temperature: float, queue_size: int, key_momentum: float, batch_norm_groups: int,
        dense_weight: float, dense_warmup_steps: int,
    ) -> None:  # fmt: skip
        super().__init__()
        split(encoder, groups_per_process(batch_norm_groups))  # in place
        self.query = TwoHeads(encoder)
        self.key = target_of(self.query)
        self.queue = Queue(queue_size, encoder.dim)
        self.dense_queue = Queue(queue_size, encoder.dim)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.step: Tensor
        self.temperature = temperature
        self.key_momentum = key_momentum
        self.dense_weight = dense_weight
        self.dense_warmup_steps = dense_warmup_steps

    @property
    def encoder(self) -> Encoder:
        """What the training is for: the query network without its dense head."""
        return self.query.encoder

    def forward(self, batch: Mapping[str, Tensor]) -> Output:
        """batch: `view_1` (queries), `view_2` (keys), each (N, 3, S, S) uint8 RGB. Logs both parts of the loss."""
        q, q_dense, q_features = self.query(batch["view_1"])  # (N, D), (N, L, D), (N, L, C)
        with torch.no_grad():
            images, order = shuffle(batch["view_2"], self.step)
            keys, dense_keys, features = (unshuffle(x, order) for x in self.key(images))  # of all processes: W N rows
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
