"""The queue against a list from which the oldest keys are dropped."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.learning.queue import Queue


def oldest_first(queue: Queue) -> Tensor:
    return queue.keys.roll(-int(queue.oldest), dims=0)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 12), batches=st.lists(st.integers(0, 30), max_size=8))
def test_holds_the_last_keys_whatever_the_size_of_batches(size: int, batches: list[int]):
    """Batches that wrap around, that fill the queue exactly, that are larger than it, and empty ones."""
    queue = Queue(size, 3)
    expected = queue.keys.clone()
    for n in batches:
        keys = 5 * torch.randn(n, 3)
        queue.enqueue(keys)
        expected = torch.cat([expected, F.normalize(keys, dim=1)])[-size:]
    assert torch.equal(oldest_first(queue), expected)


def test_starts_with_unit_vectors_and_keeps_them():
    queue = Queue(50, 8)
    queue.enqueue(torch.randn(20, 8, dtype=torch.bfloat16))
    assert queue.keys.dtype == torch.float32
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(50))


def test_changes_in_place_and_records_no_gradient():
    queue, keys = Queue(4, 2), torch.randn(3, 2, requires_grad=True)
    place = queue.keys.data_ptr()
    queue.enqueue(keys)
    assert queue.keys.data_ptr() == place
    assert not queue.keys.requires_grad


def test_goes_on_from_its_state():
    queue, resumed = Queue(5, 2), Queue(5, 2)
    queue.enqueue(torch.randn(7, 2))
    resumed.load_state_dict(queue.state_dict())
    keys = torch.randn(3, 2)
    for each in (queue, resumed):
        each.enqueue(keys)
    assert torch.equal(queue.keys, resumed.keys)
    assert int(resumed.oldest) == 0
    assert set(queue.state_dict()) == {"keys", "oldest"}


@pytest.mark.parametrize("backward_first", [True, False])
def test_a_clone_survives_the_enqueuing_before_the_backward_pass(backward_first: bool):
    queue, q = Queue(4, 2), torch.randn(3, 2, requires_grad=True)
    before = queue.keys.clone()
    similarity = (q @ queue.keys.clone().T).sum()
    if backward_first:
        similarity.backward()
        queue.enqueue(torch.randn(2, 2))
    else:
        queue.enqueue(torch.randn(2, 2))
        similarity.backward()
    torch.testing.assert_close(q.grad, before.sum(0).expand(3, 2))
