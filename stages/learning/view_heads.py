"""Two views that differ in kind, an object and its scene: a projection head for each, and roles that they swap.

Source: Mishra et al., Object-Aware Cropping (arXiv:2112.00319): section 3, "Different projection heads for Object and
Scene crops", and algorithm 1 of the appendix.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.learning.encoder import Encoder
from stages.learning.shuffle import permutation


class ViewHeads(nn.Module):
    """An encoder with a second projector, as large, for crops of objects; those of scenes take the encoder's own.

    The encoder alone is what is used after the training: later stages show it whole photos, which are scenes.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.object_projector = object_projector(encoder)

    def forward(self, images: Tensor, is_object: bool | Tensor) -> Tensor:
        """images: (N, 3, H, W) uint8 RGB; is_object: see `by_head`. Returns projections (N, D), not normalised."""
        return by_head(self.encoder.features(images), is_object, self.object_projector, self.encoder.projector)


def object_projector(encoder: Encoder) -> nn.Module:
    """A projector of its own for crops of objects, which starts with the weights of the encoder's.

    The paper does not say how it starts. From other weights, the head alone would tell a query's positive, of the other
    kind of crops, from the keys of its own kind in the queue, more than any photo does: training runs away from that
    to one embedding for all photos (MoCo v2 on VOC2007 did so at two learning rates, and does not from equal heads).
    """
    return copy.deepcopy(encoder.projector)


def by_head(features: Tensor, is_object: bool | Tensor, object_head: nn.Module, scene_head: nn.Module) -> Tensor:
    """Projections of a batch by the head for its kind of crops.

    Args:
        features: (N, C) float32.
        is_object: whether these are crops of objects. As a () bool tensor it is decided on the device, without waiting
            for it: then both heads compute, and the one that is not chosen gets the gradient that the loss has for it,
            0. So each parameter gets a gradient in each step, as `DistributedDataParallel` requires.
            Batch norms in the heads, where there are any, then keep running averages of both kinds of crops.

    Returns:
        (N, D).
    """
    if isinstance(is_object, Tensor):
        return torch.where(is_object, object_head(features), scene_head(features))
    return object_head(features) if is_object else scene_head(features)


def project(network: nn.Module, images: Tensor, is_object: bool | Tensor) -> Tensor:
    """Projections (N, D) by the network, which asks for the kind of crops if it is a `ViewHeads`."""
    return network(images, is_object) if isinstance(network, ViewHeads) else network(images)


def encoder_of(network: Encoder | ViewHeads) -> Encoder:
    """The encoder without a head for objects."""
    return network.encoder if isinstance(network, ViewHeads) else network


def dropped_heads(network: Encoder | ViewHeads) -> tuple[str, ...]:
    """What of the network is no part of its encoder, for `Method.dropped`."""
    return ("object head",) if isinstance(network, ViewHeads) else ()


class Roles(NamedTuple):
    """Which view asks and which answers, in a whole batch.

    Attributes:
        queries, keys: (N, 3, S, S) uint8 RGB, `view_1` and `view_2` or the other way round.
        query_is_object, key_is_object: whether they are `view_1`, the object; for `by_head`.
    """

    queries: Tensor
    keys: Tensor
    query_is_object: bool | Tensor
    key_is_object: bool | Tensor


def roles(view_1: Tensor, view_2: Tensor, step: Tensor, *, swap: bool) -> Roles:
    """`view_1` asks and `view_2` answers; with `swap` it is the other way round in half of the steps (algorithm 1).

    Two crops of a scene are of one kind, so that it does not matter which of them asks. An object and its scene are
    not: without the swap queries would always be objects, and keys and the queue scenes.

    Args:
        view_1, view_2: (N, 3, S, S) uint8 RGB.
        step: () int64; decides, so that all processes swap in the same steps and do so again after a resume.
    """
    if not swap:
        return Roles(view_1, view_2, True, False)
    swapped = permutation(step, 2)[0] == 1  # () bool
    queries, keys = torch.where(swapped, view_2, view_1), torch.where(swapped, view_1, view_2)
    return Roles(queries, keys, ~swapped, swapped)
