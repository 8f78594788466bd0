"""ORL against a transcription by hand: three BYOL losses that share all but their predictors."""

from __future__ import annotations

import copy

import pytest
import torch
from byol_by_hand import project, symmetric_loss, tiny_encoder, views
from torch import Tensor

from stages.methods.orl import ORL, PARTS

ONES = {"image": 1.0, "intra": 1.0, "inter": 1.0}


def orl(weights: dict[str, float]) -> ORL:
    method = ORL(tiny_encoder(0), predictor_hidden=16, tau=0.99, weights=weights)
    method.target.load_state_dict(tiny_encoder(1).state_dict())
    return method.train()


def batch() -> dict[str, Tensor]:
    patches = views(1, "intra_1", "intra_2", "inter_1", "inter_2", side=24)
    return views(0, "view_1", "view_2") | patches


@pytest.mark.parametrize("weights", [ONES, {"image": 1.0, "intra": 0.5, "inter": 2.0}])
def test_the_loss_is_the_weighted_sum_of_three_byol_losses(weights: dict[str, float]):
    method, data = orl(weights), batch()
    online, target = copy.deepcopy(method.online), copy.deepcopy(method.target)
    expected = {
        part: symmetric_loss(online, target, copy.deepcopy(method.predictors[part]), data[first], data[second])
        for part, (first, second) in PARTS.items()
    }

    loss, embeddings, figures = method(data)

    total = sum(weights[part] * value for part, value in expected.items())
    torch.testing.assert_close(loss, total)
    for part, value in expected.items():
        torch.testing.assert_close(figures[f"loss_{part}"], value.detach())
    assert set(figures) == {f"loss_{part}" for part in PARTS}
    for part, (first, second) in PARTS.items():
        for z, view in zip(embeddings[part], (data[first], data[second]), strict=True):
            torch.testing.assert_close(z, project(method.online, view).detach(), rtol=1e-4, atol=1e-5)
            assert not z.requires_grad
    assert 0 <= loss.item() <= 8 * sum(weights.values())


def test_gradients_are_those_of_the_sum():
    method, data = orl(ONES), batch()
    online, target, predictors = (copy.deepcopy(net) for net in (method.online, method.target, method.predictors))
    sum(
        symmetric_loss(online, target, predictors[part], data[first], data[second])
        for part, (first, second) in PARTS.items()
    ).backward()

    method(data).loss.backward()

    for (name, ours), theirs in zip(method.online.named_parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, ours), theirs in zip(method.predictors.named_parameters(), predictors.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)
    assert all(parameter.grad is None for parameter in method.target.parameters())


def test_predictors_are_three_and_differ():
    method = orl(ONES)
    assert set(method.predictors) == {"image", "intra", "inter"}
    first = [predictor[0].weight for predictor in method.predictors.values()]
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])


def test_a_part_without_weight_is_left_out():
    method = orl({"image": 1.0, "intra": 0.0, "inter": 1.0})
    data = {name: tensor for name, tensor in batch().items() if not name.startswith("intra")}
    _, embeddings, figures = method(data)
    assert set(method.predictors) == set(embeddings) == {"image", "inter"}
    assert set(figures) == {"loss_image", "loss_inter"}


@pytest.mark.parametrize(
    "weights", [{"image": 1.0}, {"image": -1.0, "intra": 1.0, "inter": 1.0}, dict.fromkeys(PARTS, 0.0)]
)
def test_impossible_weights_are_refused(weights: dict[str, float]):
    with pytest.raises(ValueError, match="loss weights"):
        orl(weights)


def test_target_follows_the_online_net_alone():
    method = orl(ONES)
    theta = method.online.projector[3].weight.detach().clone()
    xi = method.target.projector[3].weight.detach().clone()
    assert method.after_step(0.0) == {"tau": pytest.approx(0.99)}
    torch.testing.assert_close(method.target.projector[3].weight.detach(), 0.99 * xi + 0.01 * theta)
    assert method.encoder is method.online
