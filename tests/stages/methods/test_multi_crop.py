"""Multi-crop BYOL: small views predict the targets of the large ones and are none themselves."""

from __future__ import annotations

import copy

import pytest
import torch
from byol_by_hand import distance, head, project, symmetric_loss, tiny_encoder, views
from torch import Tensor

from stages.methods.byol import BYOL

SMALL = ("small_1", "small_2", "small_3")


def byol(small_views: int, two_heads: bool = False) -> BYOL:
    method = BYOL(tiny_encoder(0), predictor_hidden=16, tau=0.9, small_views=small_views, two_heads=two_heads)
    if not two_heads:
        method.target.load_state_dict(tiny_encoder(1).state_dict())
    return method.train()


def batch() -> dict[str, Tensor]:
    return views(0, "view_1", "view_2") | views(1, *SMALL, side=24)


def test_the_loss_and_gradients_are_those_of_the_transcription():
    method, data = byol(3), batch()
    online, target, predictor = (copy.deepcopy(net) for net in (method.online, method.target, method.predictor))
    total = torch.zeros(())
    for answer in ("view_1", "view_2"):
        t = project(target, data[answer]).detach()
        losses = [distance(head(predictor, project(online, view)), t) for name, view in data.items() if name != answer]
        assert len(losses) == 4
        total = total + sum(losses) / len(losses)
    total.backward()

    loss, embeddings, _ = method(data)
    loss.backward()

    torch.testing.assert_close(loss, total)
    for net, by_hand in ((method.online, online), (method.predictor, predictor)):
        for (name, ours), theirs in zip(net.named_parameters(), by_hand.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)
    assert all(parameter.grad is None for parameter in method.target.parameters())
    assert list(embeddings) == ["image"]
    torch.testing.assert_close(embeddings["image"][0], project(method.online, data["view_1"]).detach())


def test_small_views_pass_the_online_network_alone_and_once():
    method, seen = byol(2), {"online": [], "target": []}
    for name, sizes in seen.items():
        getattr(method, name).backbone.register_forward_hook(
            lambda _, x, __, sizes=sizes: sizes.append(len(x[0][0, 0]))
        )
    method(batch())
    assert seen == {"online": [32, 32, 24, 24], "target": [32, 32]}


def test_without_small_views_it_is_byol():
    """And views that nobody asked for are not looked at."""
    method, data = byol(0), batch()
    expected = symmetric_loss(method.online, method.target, method.predictor, data["view_1"], data["view_2"])
    torch.testing.assert_close(method(data).loss, expected.detach(), check_stride=False)


def test_small_views_that_repeat_a_large_one_cost_what_it_costs():
    """The loss is a mean over views: its range does not grow with their number."""
    method = byol(2)
    with torch.no_grad():  # constant projections z, and a predictor that answers -z
        for net in (method.online, method.target):
            net.projector[0].weight.zero_()
            net.projector[1].bias.fill_(1.0)
            net.projector[3].weight.fill_(1.0)
        method.predictor[0].weight.zero_()
        method.predictor[1].bias.fill_(1.0)
        method.predictor[3].weight.fill_(-1.0)
    assert method(batch()).loss.item() == pytest.approx(8.0)


def test_small_views_of_the_scene_take_the_head_of_scenes():
    method, data = byol(1, two_heads=True), batch()
    own, of_objects = method.online.encoder.projector, method.online.object_projector
    with torch.no_grad():
        y = {name: view for name, view in data.items() if name in ("view_1", "view_2", "small_1")}
        y = {name: method.online.encoder.backbone(view).flatten(2).mean(dim=2) for name, view in y.items()}
        z = {name: head(of_objects if name == "view_1" else own, each) for name, each in y.items()}
        q = {name: head(method.predictor, each) for name, each in z.items()}  # the target starts as the online network
    by_object = distance(q["view_2"], z["view_1"]) + distance(q["small_1"], z["view_1"])
    by_scene = distance(q["view_1"], z["view_2"]) + distance(q["small_1"], z["view_2"])
    torch.testing.assert_close(method(data).loss.detach(), (by_object + by_scene) / 2)
