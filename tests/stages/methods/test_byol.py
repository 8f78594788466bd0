"""BYOL against a transcription by hand: the loss, one whole step, and what must not learn."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from byol_by_hand import ema_step, project, sgd_step, symmetric_loss, tiny_encoder, views
from process_pair import ProcessPair
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.learning.batch_norm import synchronize
from stages.learning.distributed import rank, world_size
from stages.learning.ema import target_of
from stages.methods.byol import BYOL


def assert_same_parameters(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter.detach(), other.detach(), rtol=1e-4, atol=1e-6, msg=name)


def byol_of_two() -> BYOL:
    byol = BYOL(tiny_encoder(0), predictor_hidden=16, tau=0.9)
    byol.target.load_state_dict(tiny_encoder(1).state_dict())  # so that mistaking one net for the other shows
    return byol.train()


@pytest.fixture
def method() -> BYOL:
    return byol_of_two()


def test_one_step_is_that_of_the_transcription(method: BYOL):
    lr, progress = 0.1, 0.25
    batch = views(0, "view_1", "view_2")
    online, target, predictor = (copy.deepcopy(net) for net in (method.online, method.target, method.predictor))

    expected = symmetric_loss(online, target, predictor, batch["view_1"], batch["view_2"])
    expected.backward()
    sgd_step(online, lr)
    sgd_step(predictor, lr)
    ema_step(target, online, 1 - (1 - 0.9) * (math.cos(math.pi * progress) + 1) / 2)

    loss = method(batch).loss
    loss.backward()
    torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=lr).step()
    method.after_step(progress)

    torch.testing.assert_close(loss, expected)
    assert_same_parameters(method.online, online)
    assert_same_parameters(method.predictor, predictor)
    assert_same_parameters(method.target, target)


def test_the_loss_is_the_sum_of_both_directions(method: BYOL):
    batch = views(0, "view_1", "view_2")
    swapped = {"view_1": batch["view_2"], "view_2": batch["view_1"]}
    assert method(batch).loss.item() == pytest.approx(method(swapped).loss.item(), rel=1e-5)
    assert 0 <= method(batch).loss.item() <= 8


def test_views_that_point_the_other_way_cost_eight():
    method = BYOL(tiny_encoder(0), predictor_hidden=16, tau=0.9)
    with torch.no_grad():  # constant projections z, and a predictor that answers -z
        for net in (method.online, method.target):
            net.projector[0].weight.zero_()
            net.projector[1].bias.fill_(1.0)
            net.projector[3].weight.fill_(1.0)
        method.predictor[0].weight.zero_()
        method.predictor[1].bias.fill_(1.0)
        method.predictor[3].weight.fill_(-1.0)
    assert method(views(0, "view_1", "view_2")).loss.item() == pytest.approx(8.0)


def test_only_the_online_side_learns(method: BYOL):
    method(views(0, "view_1", "view_2")).loss.backward()
    assert all(parameter.grad is None for parameter in method.target.parameters())
    assert all(parameter.grad is not None for parameter in method.online.parameters())
    assert all(parameter.grad is not None for parameter in method.predictor.parameters())


def test_the_target_keeps_batch_norm_statistics_of_its_own(method: BYOL):
    batch = views(0, "view_1", "view_2")
    expected = copy.deepcopy(method.target)
    with torch.no_grad():
        expected(batch["view_1"])
        expected(batch["view_2"])

    method(batch)
    before = {name: buffer.clone() for name, buffer in method.target.named_buffers()}
    method.after_step(0.0)

    for (name, buffer), other in zip(method.target.named_buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=name)
        assert torch.equal(buffer, before[name]), f"the moving average has changed {name}"
    assert not torch.equal(method.target.projector[1].running_mean, method.online.projector[1].running_mean)


def test_each_view_is_normalised_by_its_own_batch(method: BYOL):
    """The same view beside another one: its projection must not change."""
    batch = views(0, "view_1", "view_2")
    z_1, z_2 = method(batch).embeddings["image"]
    other, _ = method({"view_1": batch["view_1"], "view_2": views(9, "view_2")["view_2"]}).embeddings["image"]
    torch.testing.assert_close(z_1, other)
    torch.testing.assert_close(z_1, project(method.online, batch["view_1"]).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(z_2, project(method.online, batch["view_2"]).detach(), rtol=1e-4, atol=1e-5)
    assert not z_1.requires_grad
    assert not z_2.requires_grad


def test_the_predictor_has_no_target_and_the_encoder_is_the_online_net(method: BYOL):
    names = {name.split(".")[0] for name in method.state_dict()}
    assert names == {"online", "predictor", "target"}
    assert set(method.target.state_dict()) == set(method.online.state_dict())
    assert method.encoder is method.online
    assert method.after_step(0.0) == {"tau": pytest.approx(0.9)}
    assert method.after_step(1.0) == {"tau": pytest.approx(1.0)}


def test_target_starts_equal_to_the_online_net():
    method = BYOL(tiny_encoder(3), predictor_hidden=16, tau=0.9)
    assert_same_parameters(method.target, target_of(method.online))


def share_of_a_step() -> dict[str, Tensor]:
    """Loss, gradients and buffers of this process with its share of the rows; in float64, but for the loss itself."""
    method = byol_of_two().double()
    for name, parameter in method.named_parameters():
        if parameter.ndim == 1:  # so that residual branches do not start closed
            nn.init.normal_(parameter, mean="weight" in name, std=0.3)
    synchronize(method, torch.device("cpu"))
    parallel = DistributedDataParallel(method) if world_size() > 1 else method
    batch = views(0, "view_1", "view_2", n=16, side=64)
    loss = parallel({name: view.chunk(world_size())[rank()] for name, view in batch.items()}).loss
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in method.named_parameters() if parameter.requires_grad}
    return {"loss": loss.detach(), **gradients, **dict(method.named_buffers())}


def test_two_processes_give_the_loss_and_gradients_of_one(two_processes: ProcessPair):
    expected = share_of_a_step()
    first, second = two_processes(share_of_a_step)
    torch.testing.assert_close((first.pop("loss") + second["loss"]) / 2, expected.pop("loss"), rtol=1e-6, atol=0)
    assert set(first) == set(expected)
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-6, atol=1e-7, msg=name)
    assert all(expected[name].any() for name, _ in byol_of_two().online.named_parameters(prefix="online"))
