"""MoCo and DenseCL with two heads and roles that swap, against transcriptions by hand, in one process and in two."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from contrastive_by_hand import (
    DenseCLByHand,
    MoCoByHand,
    assert_same,
    descend,
    gradients,
    photos,
    tiny_encoder,
    weights,
)
from process_pair import ProcessPair
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.learning.distributed import rank
from stages.learning.queue import Queue
from stages.learning.shuffle import permutation
from stages.methods.densecl import DenseCL
from stages.methods.moco import MoCo

LR = 0.02
# Whether view 2 asks in a step. Written down, so that a training that is resumed by a later version swaps as it did.
SWAPPED = [False, False, True, False, True, True, True, True]
CONTRASTIVE = {"temperature": 0.2, "queue_size": 10, "key_momentum": 0.9}
METHODS = {"moco": MoCo, "densecl": partial(DenseCL, dense_weight=0.3, dense_warmup_steps=0)}
HEADS = [{"two_heads": True}, {"swap_roles": True}]


def method_of(name: str, *, groups: int = 2, **heads: bool) -> Any:
    return METHODS[name](tiny_encoder(0, "none"), **CONTRASTIVE, batch_norm_groups=groups, **heads).train()


def oldest_first(queue: Queue) -> Tensor:
    return queue.keys.roll(-int(queue.oldest), dims=0)


def test_steps_that_are_tested_swap_and_do_not():
    assert {*SWAPPED[:4]} == {False, True}


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("groups", [1, 2])
def test_steps_of_moco_are_those_of_the_transcription(groups: int, heads: dict[str, bool]):
    method, plain = method_of("moco", groups=groups, **heads), method_of("moco", groups=1, **heads).query_encoder
    by_hand = MoCoByHand(plain, method.queue.keys, 0.2, 0.9, devices=groups)
    for step in range(4):
        batch, by_hand.swapped = photos(step), SWAPPED[step]
        expected = by_hand.loss(batch["view_1"], batch["view_2"], permutation(torch.tensor(step), 6))
        expected.backward()

        loss = method(batch).loss
        loss.backward()

        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        assert_same(gradients(method.query_encoder), gradients(by_hand.query))
        assert_same(weights(method.key_encoder), weights(by_hand.key))
        torch.testing.assert_close(oldest_first(method.queue), torch.stack(by_hand.queue), rtol=1e-3, atol=1e-5)
        descend(method, LR)
        descend(by_hand.query, LR)
        method.after_step(step / 4)


@pytest.mark.parametrize("heads", HEADS)
def test_steps_of_densecl_are_those_of_the_transcription(heads: dict[str, bool]):
    """The dense head is one, whichever view asks."""
    method, plain = method_of("densecl", **heads), method_of("densecl", groups=1, **heads).query
    by_hand = DenseCLByHand(plain, method.queue.keys, method.dense_queue.keys, 0.2, 0.9, devices=2)
    for step in range(4):
        batch, by_hand.swapped = photos(step), SWAPPED[step]
        order = permutation(torch.tensor(step), 6)
        expected_global, expected_dense = by_hand.losses(batch["view_1"], batch["view_2"], order)
        expected = 0.7 * expected_global + 0.3 * expected_dense
        expected.backward()

        loss = method(batch).loss
        loss.backward()

        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        assert_same(gradients(method.query), gradients(by_hand.query))
        assert_same(weights(method.key), weights(by_hand.key))
        for queue, other in ((method.queue, by_hand.queue), (method.dense_queue, by_hand.dense_queue)):
            torch.testing.assert_close(oldest_first(queue), torch.stack(other), rtol=1e-3, atol=1e-5)
        descend(method, LR)
        descend(by_hand.query, LR)
        method.after_step(step / 4)


@pytest.mark.parametrize("name", METHODS)
def test_the_head_of_the_view_that_asks_learns(name: str):
    """The other one has gradients of 0, and those of the key network none."""
    method = method_of(name, two_heads=True)
    for step in range(4):
        method(photos(step)).loss.backward()
        heads = {"object": [], "scene": []}
        for parameter_name, parameter in method.named_parameters():
            if not parameter.requires_grad:
                assert parameter.grad is None, parameter_name
            elif "projector" in parameter_name:
                kind = "object" if "object_projector" in parameter_name else "scene"
                heads[kind].append(bool(parameter.grad.any()))
        asks, other = ("scene", "object") if SWAPPED[step] else ("object", "scene")
        assert all(heads[asks])
        assert not any(heads[other])
        method.zero_grad()
        method.after_step(0.0)


@pytest.mark.parametrize("name", METHODS)
def test_swaps_go_on_from_its_state(name: str):
    """Stopped after two steps it goes on as if it had not been, in steps that swap and that do not."""
    method, resumed = method_of(name, two_heads=True), method_of(name, two_heads=True)
    _steps(method, method, [photos(step) for step in range(2)])
    resumed.load_state_dict(copy.deepcopy(method.state_dict()))
    for each in (method, resumed):
        _steps(each, each, [photos(step) for step in range(2, 6)])
    assert {*SWAPPED[2:6]} == {False, True}
    theirs = resumed.state_dict()
    for key, tensor in method.state_dict().items():
        assert torch.equal(tensor, theirs[key]), key


def _steps(method: Any, network: nn.Module, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    losses = []
    for batch in batches:
        loss = network(batch).loss
        loss.backward()
        losses.append(loss.detach())
        descend(method, LR)
        method.after_step(0.0)
    return {"losses": torch.stack(losses), "queue": oldest_first(method.queue).clone()} | weights(method)


def _steps_of_one_of_two(name: str, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The same on this process's halves of the batches. No `find_unused_parameters`: each has a gradient."""
    method = method_of(name, two_heads=True)
    halves = [{view: images.chunk(2)[rank()] for view, images in batch.items()} for batch in batches]
    return _steps(method, DistributedDataParallel(method, broadcast_buffers=False), halves)


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_do_what_one_does_with_as_many_groups(name: str, two_processes: ProcessPair):
    batches = [photos(step, n=12) for step in range(4)]
    method = method_of(name, two_heads=True)
    expected = _steps(method, method, batches)

    results = two_processes(_steps_of_one_of_two, name, batches)

    queues = [result.pop("queue") for result in results]
    assert torch.equal(*queues)
    torch.testing.assert_close(queues[0], expected.pop("queue"), rtol=1e-3, atol=1e-5)
    losses = torch.stack([result.pop("losses") for result in results]).mean(dim=0)
    torch.testing.assert_close(losses, expected.pop("losses"), rtol=1e-4, atol=1e-5)
    for result in results:
        assert_same(result, expected)  # the weights of both networks, with all their heads
