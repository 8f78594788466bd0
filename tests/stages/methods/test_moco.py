"""MoCo against a transcription by hand that runs one device after the other, and two processes against one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from contrastive_by_hand import MoCoByHand, assert_same, descend, gradients, photos, tiny_encoder, weights
from process_pair import ProcessPair
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.learning.distributed import rank
from stages.learning.shuffle import permutation
from stages.methods.moco import MoCo

LR = 0.02


def moco(groups: int, queue_size: int = 10) -> MoCo:
    encoder = tiny_encoder(0, "none")
    return MoCo(encoder, temperature=0.2, queue_size=queue_size, key_momentum=0.9, batch_norm_groups=groups).train()


def oldest_first(method: MoCo) -> Tensor:
    return method.queue.keys.roll(-int(method.queue.oldest), dims=0)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_steps_are_those_of_the_transcription(groups: int):
    """Loss, gradients, moving average and queue over four steps; the queue of 10 is no multiple of the batch of 6."""
    method = moco(groups)
    by_hand = MoCoByHand(tiny_encoder(0, "none").train(), method.queue.keys, 0.2, 0.9, devices=groups)
    for step in range(4):
        batch = photos(step)
        expected = by_hand.loss(batch["view_1"], batch["view_2"], permutation(torch.tensor(step), 6))
        expected.backward()

        loss, _, figures = method(batch)
        loss.backward()

        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        assert_same(gradients(method.encoder), gradients(by_hand.query))
        assert_same(weights(method.key_encoder), weights(by_hand.key))
        torch.testing.assert_close(oldest_first(method), torch.stack(by_hand.queue), rtol=1e-3, atol=1e-5)
        descend(method, LR)
        descend(by_hand.query, LR)
        assert method.after_step(step / 4) == figures == {}


def test_only_the_query_encoder_learns():
    method = moco(2)
    loss, embeddings, _ = method(photos(0))
    loss.backward()
    assert all(parameter.grad is None for parameter in method.key_encoder.parameters())
    assert all(parameter.grad is not None for parameter in method.encoder.parameters())
    assert not any(z.requires_grad for z in embeddings["image"])


def test_the_queue_takes_the_keys_in_the_order_of_the_photos():
    method = moco(2, queue_size=6)
    keys = method(photos(0)).embeddings["image"][1]
    assert torch.equal(method.queue.keys, F.normalize(keys, dim=1))


def test_several_batches_may_come_before_one_step():
    """Gradient accumulation: the first batch's graph is still whole after the second one has entered the queue."""
    method, other = moco(1), moco(1)
    batches = [photos(step) for step in range(2)]

    sum(method(batch).loss for batch in batches).backward()
    for batch in batches:
        other(batch).loss.backward()

    assert_same(gradients(method.encoder), gradients(other.encoder))
    assert torch.equal(method.queue.keys, other.queue.keys)


def test_goes_on_exactly_from_its_state():
    method, resumed = moco(2), moco(2)
    _steps(method, method, [photos(step) for step in range(2)])
    resumed.load_state_dict(copy.deepcopy(method.state_dict()))
    assert torch.equal(method(photos(2)).loss, resumed(photos(2)).loss)
    assert torch.equal(method.queue.keys, resumed.queue.keys)


def test_the_encoder_can_be_loaded_into_a_plain_one():
    tiny_encoder(1, "none").load_state_dict(moco(2).encoder.state_dict())


def test_computes_the_loss_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        loss = moco(2)(photos(0)).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(moco(2)(photos(0)).loss.item(), rel=0.05)


def _steps(method: MoCo, network: nn.Module, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    losses = []
    for batch in batches:
        loss = network(batch).loss
        loss.backward()
        losses.append(loss.detach())
        descend(method, LR)
        method.after_step(0.0)
    return {"losses": torch.stack(losses), "queue": oldest_first(method).clone()} | weights(method)


def _steps_of_one_of_two(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The same on this process's halves of the batches."""
    method = moco(2)
    halves = [{name: images.chunk(2)[rank()] for name, images in batch.items()} for batch in batches]
    return _steps(method, DistributedDataParallel(method, broadcast_buffers=False), halves)


def test_two_processes_do_what_one_does_with_as_many_groups(two_processes: ProcessPair):
    """Three steps with batch norm in two groups: two processes with one each, or one process with both."""
    batches = [photos(step, n=12) for step in range(3)]
    method = moco(2)
    expected = _steps(method, method, batches)

    results = two_processes(_steps_of_one_of_two, batches)

    queues = [result.pop("queue") for result in results]
    assert torch.equal(*queues)
    torch.testing.assert_close(queues[0], expected.pop("queue"), rtol=1e-3, atol=1e-5)
    losses = torch.stack([result.pop("losses") for result in results]).mean(dim=0)
    torch.testing.assert_close(losses, expected.pop("losses"), rtol=1e-4, atol=1e-5)
    for result in results:
        assert_same(result, expected)  # the weights of both encoders
