"""A head for objects and one for scenes: BYOL and SimCLR against transcriptions by hand, and what all methods keep."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import byol_by_hand
import contrastive_by_hand
import pytest
import torch
from byol_by_hand import distance, ema_step, head
from contrastive_by_hand import assert_same, cosine, descend, gradients, photos, standardized, weights
from torch import Tensor, nn

from stages.learning.encoder import Encoder
from stages.learning.method import Method
from stages.methods.byol import BYOL
from stages.methods.densecl import DenseCL
from stages.methods.moco import MoCo
from stages.methods.orl import ORL
from stages.methods.simclr import SimCLR


def pooled(encoder: Encoder, images: Tensor) -> Tensor:
    return encoder.backbone(images).flatten(2).mean(dim=2)


def byol() -> BYOL:
    method = BYOL(contrastive_by_hand.tiny_encoder(0, "hidden"), predictor_hidden=16, tau=0.9, two_heads=True)
    other = BYOL(contrastive_by_hand.tiny_encoder(1, "hidden"), predictor_hidden=16, tau=0.9, two_heads=True)
    method.target.load_state_dict(other.online.state_dict())  # so that mistaking one net for the other shows
    return method.train()


def test_steps_of_byol_are_those_of_the_transcription():
    """Both networks project view 1 by their head of objects and view 2 by the encoder's; one predictor serves both."""
    method = byol()
    online, target, predictor = (copy.deepcopy(net) for net in (method.online, method.target, method.predictor))
    for step in range(2):
        batch = photos(step)
        z_1 = head(online.object_projector, pooled(online.encoder, batch["view_1"]))
        z_2 = head(online.encoder.projector, pooled(online.encoder, batch["view_2"]))
        t_1 = head(target.object_projector, pooled(target.encoder, batch["view_1"])).detach()
        t_2 = head(target.encoder.projector, pooled(target.encoder, batch["view_2"])).detach()
        expected = distance(head(predictor, z_1), t_2) + distance(head(predictor, z_2), t_1)
        expected.backward()

        loss, embeddings, _ = method(batch)
        loss.backward()

        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(embeddings["image"], (z_1, z_2), strict=True):
            torch.testing.assert_close(ours, theirs.detach(), rtol=1e-3, atol=1e-4)
        assert_same(gradients(method.online), gradients(online))
        assert_same(gradients(method.predictor), gradients(predictor))
        for net in (method, online, predictor):
            descend(net, 0.02)
        method.after_step(step / 2)
        ema_step(target, online, 1 - (1 - 0.9) * (math.cos(math.pi * step / 2) + 1) / 2)
        assert_same(weights(method.target), weights(target))


def test_steps_of_simclr_are_those_of_the_transcription():
    """The backbone sees both views together, each head its own view."""
    method = SimCLR(contrastive_by_hand.tiny_encoder(0, "all"), temperature=0.1, two_heads=True).train()
    hand = copy.deepcopy(method)
    for step in range(2):
        batch = photos(step)
        y_1, y_2 = pooled(hand.encoder, torch.cat([batch["view_1"], batch["view_2"]])).chunk(2)
        z = torch.cat([normed_head(hand.object_projector, y_1), normed_head(hand.encoder.projector, y_2)])
        expected = doubled_nt_xent(z, 0.1)
        expected.backward()

        loss = method(batch).loss
        loss.backward()

        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        assert_same(gradients(method), gradients(hand))
        assert all(gradient.any() for gradient in gradients(method.object_projector).values())
        descend(method, 0.01)
        descend(hand, 0.01)


def normed_head(layers: nn.Module, y: Tensor) -> Tensor:
    """Linear, batch norm, ReLU, linear, batch norm without offset."""
    head = dict(layers.named_parameters())
    hidden = head["1.weight"] * standardized(y @ head["0.weight"].T) + head["1.bias"]
    return head["4.weight"] * standardized(torch.relu(hidden) @ head["3.weight"].T)


def doubled_nt_xent(z: Tensor, temperature: float) -> Tensor:
    n = len(z) // 2
    losses = []
    for i in range(2 * n):
        terms = {k: torch.exp(cosine(z[i], z[k]) / temperature) for k in range(2 * n) if k != i}
        losses.append(-torch.log(terms[(i + n) % (2 * n)] / sum(terms.values())))
    return 2 * sum(losses) / len(losses)


CONTRASTIVE = {"temperature": 0.2, "queue_size": 10, "key_momentum": 0.9, "batch_norm_groups": 2}
DENSE = {**CONTRASTIVE, "dense_weight": 0.5, "dense_warmup_steps": 0}
ONES = {"image": 1.0, "intra": 1.0, "inter": 1.0}
METHODS: dict[str, Callable[..., Method]] = {
    "byol": lambda encoder, **heads: BYOL(encoder, predictor_hidden=16, tau=0.9, **heads),
    "simclr": lambda encoder, **heads: SimCLR(encoder, temperature=0.1, **heads),
    "moco": lambda encoder, **heads: MoCo(encoder, **CONTRASTIVE, **heads),
    "densecl": lambda encoder, **heads: DenseCL(encoder, **DENSE, **heads),
    "orl": lambda encoder: ORL(encoder, predictor_hidden=16, tau=0.9, weights=ONES),
}
DROPPED = {
    "byol": ("predictor", "target network"),
    "simclr": (),
    "moco": ("key encoder", "queue"),
    "densecl": ("dense head", "key network", "queues"),
    "orl": ("predictors", "target network"),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_say_what_they_leave_behind(name: str):
    assert METHODS[name](byol_by_hand.tiny_encoder(0)).dropped == DROPPED[name]


@pytest.mark.parametrize("name", ["byol", "simclr", "moco", "densecl"])
def test_the_encoder_that_is_kept_has_the_head_of_scenes(name: str):
    """And loads into a plain one."""
    encoder = byol_by_hand.tiny_encoder(0)
    method = METHODS[name](encoder, two_heads=True)
    assert method.encoder is encoder
    assert set(method.dropped) == {*DROPPED[name], "object head"}
    byol_by_hand.tiny_encoder(1).load_state_dict(method.encoder.state_dict())


@pytest.mark.parametrize("name", ["byol", "simclr", "moco", "densecl"])
def test_one_head_draws_the_weights_it_always_drew(name: str):
    """Weights of an earlier training with the same seed, and its place in the generator."""
    one, two = (METHODS[name](byol_by_hand.tiny_encoder(0), two_heads=two_heads) for two_heads in (False, True))
    ours, theirs = one.encoder.state_dict(), two.encoder.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    assert not any("object" in key for key in one.state_dict())
    assert sum("object" in key for key in two.state_dict()) > 0
