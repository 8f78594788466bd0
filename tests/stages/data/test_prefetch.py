"""Batches one ahead: in order, no further ahead than said, and errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from stages.data.batches import DrawnBatch
from stages.data.loading import training_loader
from stages.data.policies import ImageViews
from stages.data.prefetch import prefetch
from stages.data.unreadable import Unreadable

CPU = torch.device("cpu")


def numbered(count: int, taken: list[int]) -> Iterator[DrawnBatch]:
    for number in range(count):
        taken.append(number)
        yield DrawnBatch({"view": torch.full((1, 3, 2, 2), number)}, {}, [Unreadable(number, "gone")])


def test_batches_come_in_order_and_whole():
    got = list(prefetch(numbered(5, []), CPU))
    assert [int(batch.on(CPU)["view"][0, 0, 0, 0]) for batch in got] == [0, 1, 2, 3, 4]
    assert [batch.unreadable for batch in got] == [[(number, "gone")] for number in range(5)]


def test_one_batch_is_prepared_ahead_and_no_more():
    taken: list[int] = []
    batches = prefetch(numbered(5, taken), CPU)
    assert taken == []
    next(batches)
    next(batches)
    batches.close()  # waits for what is being prepared
    assert taken == [0, 1, 2]
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_an_error_is_raised_after_the_batches_before_it():
    def failing() -> Iterator[DrawnBatch]:
        yield from numbered(2, [])
        raise RuntimeError("a worker died")

    batches = prefetch(failing(), CPU)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(RuntimeError, match="a worker died"):
        next(batches)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("renderer", ["cpu", "device"])
def test_a_gpu_gets_the_same_views(photo_catalog, renderer):
    gpu = torch.device("cuda")
    policy = ImageViews(photo_catalog.sizes, size=24)
    settings = {"seed": 7, "batch_size": 4, "first_step": 0, "last_step": 6, "workers": 1, "renderer": renderer}
    here = training_loader(photo_catalog, policy, **settings)
    there = training_loader(photo_catalog, policy, **settings, device=gpu)
    assert len(here) == len(there) == 6
    for one, other in zip(here, there, strict=True):
        expected, views = one.on(CPU), other.on(gpu)
        for name in expected:
            assert views[name].device.type == "cuda"
            assert (views[name].cpu().float() - expected[name].float()).abs().max() <= 1
