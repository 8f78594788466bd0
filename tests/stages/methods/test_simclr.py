"""SimCLR against a transcription by hand, and two processes against one."""

from __future__ import annotations

import copy

import pytest
import torch
from contrastive_by_hand import assert_same, descend, gradients, photos, simclr_loss, tiny_encoder
from process_pair import ProcessPair
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from stages.learning.batch_norm import synchronize
from stages.learning.distributed import rank
from stages.learning.encoder import Encoder
from stages.methods.simclr import SimCLR


def simclr() -> SimCLR:
    return SimCLR(tiny_encoder(0, "all"), temperature=0.1).train()


def test_steps_are_those_of_the_transcription():
    method = simclr()
    encoder = copy.deepcopy(method.encoder)
    for step in range(3):
        batch = photos(step)
        expected = simclr_loss(encoder, batch["view_1"], batch["view_2"], 0.1)
        expected.backward()

        loss, embeddings, figures = method(batch)
        loss.backward()

        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        assert_same(gradients(method.encoder), gradients(encoder))
        descend(method, 0.01)
        descend(encoder, 0.01)
        assert method.after_step(step / 3) == figures == {}
        assert [z.shape for z in embeddings["image"]] == [(6, 8), (6, 8)]
        assert not any(z.requires_grad for z in embeddings["image"])


def test_batch_norm_sees_both_views_together():
    method, batch = simclr(), photos(0)
    expected = copy.deepcopy(method.encoder)
    z_1, z_2 = expected(torch.cat([batch["view_1"], batch["view_2"]])).chunk(2)

    embeddings = method(batch).embeddings["image"]

    assert torch.equal(embeddings[0], z_1)
    assert torch.equal(embeddings[1], z_2)
    for (name, buffer), other in zip(method.encoder.named_buffers(), expected.buffers(), strict=True):
        assert torch.equal(buffer, other), name


def test_the_encoder_is_all_there_is():
    assert {name.split(".")[0] for name in simclr().state_dict()} == {"encoder"}


def _step_of_one_of_two(batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """A step on this process's half of the batch: loss, gradients, statistics of batch norms."""
    method = synchronize(simclr(), torch.device("cpu"))
    network = DistributedDataParallel(method, broadcast_buffers=False)
    loss = network({name: images.chunk(2)[rank()] for name, images in batch.items()}).loss
    loss.backward()
    return loss.detach(), gradients(method), dict(method.named_buffers())


def test_two_processes_do_what_one_does_with_their_joined_batch(two_processes: ProcessPair):
    batch = photos(3, n=12)
    method = simclr()
    expected = method(batch).loss
    expected.backward()

    results = two_processes(_step_of_one_of_two, batch)

    losses = torch.stack([loss for loss, _, _ in results])
    torch.testing.assert_close(losses.mean(), expected.detach(), rtol=1e-4, atol=1e-5)
    assert losses[0] != losses[1]  # each is the mean over its own photos
    for _, theirs, buffers in results:
        assert_same(theirs, gradients(method))
        for name, buffer in method.named_buffers():
            torch.testing.assert_close(buffers[name], buffer, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("backbone", ["test_vit", "test_byobnet"])
def test_takes_other_backbones(backbone: str):
    encoder = Encoder(backbone, projector_hidden=16, projector_out=8, projector_norm="all")
    SimCLR(encoder, temperature=0.1).train()(photos(0, n=4, side=160)).loss.backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters() if parameter.requires_grad)
