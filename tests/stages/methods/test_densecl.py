"""DenseCL against a transcription by hand that looks at one place after the other, and two processes against one."""

from __future__ import annotations

import copy

import pytest
import torch
from contrastive_by_hand import DenseCLByHand, assert_same, descend, gradients, photos, tiny_encoder, weights
from process_pair import ProcessPair
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.learning.distributed import rank
from stages.learning.queue import Queue
from stages.learning.shuffle import permutation
from stages.methods.densecl import DenseCL

LR = 0.02


def densecl(*, groups: int = 2, dense_weight: float = 0.3, warmup: int = 0) -> DenseCL:
    return DenseCL(
        tiny_encoder(0, "none"), temperature=0.2, queue_size=10, key_momentum=0.9, batch_norm_groups=groups,
        dense_weight=dense_weight, dense_warmup_steps=warmup,
    ).train()  # fmt: skip


def oldest_first(queue: Queue) -> Tensor:
    return queue.keys.roll(-int(queue.oldest), dims=0)


@pytest.mark.parametrize(("groups", "warmup"), [(1, 0), (2, 0), (2, 2)])
def test_steps_are_those_of_the_transcription(groups: int, warmup: int):
    """Both losses, gradients, moving averages and queues over four steps, the first `warmup` with the global loss."""
    method = densecl(groups=groups, warmup=warmup)
    plain = densecl(groups=1).query
    by_hand = DenseCLByHand(plain, method.queue.keys, method.dense_queue.keys, 0.2, 0.9, devices=groups)
    for step in range(4):
        batch = photos(step)
        order = permutation(torch.tensor(step), 6)
        expected_global, expected_dense = by_hand.losses(batch["view_1"], batch["view_2"], order)
        expected = expected_global if step < warmup else 0.7 * expected_global + 0.3 * expected_dense
        (expected + 0 * expected_dense).backward()

        loss, _, figures = method(batch)
        loss.backward()

        for ours, theirs in zip(
            (loss, figures["loss_global"], figures["loss_dense"]),
            (expected, expected_global, expected_dense),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, check_stride=False)
        assert_same(gradients(method.query), gradients(by_hand.query))
        assert_same(weights(method.key), weights(by_hand.key))
        for queue, other in ((method.queue, by_hand.queue), (method.dense_queue, by_hand.dense_queue)):
            torch.testing.assert_close(oldest_first(queue), torch.stack(other), rtol=1e-3, atol=1e-5)
        descend(method, LR)
        descend(by_hand.query, LR)
        assert method.after_step(step / 4) == {}


def test_the_backbones_run_once_a_batch():
    method, calls = densecl(), []
    for network in (method.query, method.key):
        network.encoder.backbone.register_forward_hook(lambda backbone, _, __: calls.append(backbone))
    method(photos(0))
    assert calls == [method.query.encoder.backbone, method.key.encoder.backbone]


def test_the_encoder_has_no_dense_head():
    method = densecl()
    assert method.encoder is method.query.encoder
    tiny_encoder(1, "none").load_state_dict(method.encoder.state_dict())


def test_only_the_query_network_learns():
    method = densecl()
    loss, embeddings, _ = method(photos(0))
    loss.backward()
    assert all(parameter.grad is None for parameter in method.key.parameters())
    assert all(parameter.grad is not None for parameter in method.query.parameters())
    assert [z.shape for z in embeddings["image"]] == [(6, 8), (6, 8)]
    assert not any(z.requires_grad for z in embeddings["image"])


def test_with_all_weight_on_the_photo_it_is_moco():
    """And then the dense head learns nothing."""
    method = densecl(dense_weight=0.0)
    loss, _, figures = method(photos(0))
    loss.backward()
    assert loss.detach() == figures["loss_global"]
    assert all(parameter.grad.abs().max() == 0 for parameter in method.query.dense_head.parameters())


def test_goes_on_exactly_from_its_state_within_the_warm_up():
    method, resumed = densecl(warmup=2), densecl(warmup=2)
    _steps(method, method, [photos(0)])
    resumed.load_state_dict(copy.deepcopy(method.state_dict()))
    for each in (method, resumed):
        _steps(each, each, [photos(step) for step in (1, 2)])
    theirs = resumed.state_dict()
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def _steps(method: DenseCL, network: nn.Module, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    losses = []
    for batch in batches:
        loss = network(batch).loss
        loss.backward()
        losses.append(loss.detach())
        descend(method, LR)
        method.after_step(0.0)
    queues = {"queue": oldest_first(method.queue).clone(), "dense_queue": oldest_first(method.dense_queue).clone()}
    return {"losses": torch.stack(losses)} | queues | weights(method)


def _steps_of_one_of_two(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The same on this process's halves of the batches."""
    method = densecl()
    halves = [{name: images.chunk(2)[rank()] for name, images in batch.items()} for batch in batches]
    return _steps(method, DistributedDataParallel(method, broadcast_buffers=False), halves)


def test_two_processes_do_what_one_does_with_as_many_groups(two_processes: ProcessPair):
    """Two steps with batch norm in two groups: two processes with one each, or one process with both."""
    batches = [photos(step, n=12) for step in range(2)]
    method = densecl()
    expected = _steps(method, method, batches)

    results = two_processes(_steps_of_one_of_two, batches)

    for name in ("queue", "dense_queue"):
        queues = [result.pop(name) for result in results]
        assert torch.equal(*queues)
        torch.testing.assert_close(queues[0], expected.pop(name), rtol=1e-3, atol=1e-5)
    losses = torch.stack([result.pop("losses") for result in results]).mean(dim=0)
    torch.testing.assert_close(losses, expected.pop("losses"), rtol=1e-4, atol=1e-5)
    for result in results:
        assert_same(result, expected)  # the weights of both networks
