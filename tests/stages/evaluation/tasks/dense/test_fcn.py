from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.evaluation.pyramid import Pyramid
from stages.evaluation.tasks.dense.fcn import SegmentationNetwork, fcn_head
from stages.evaluation.tasks.dense.label_styles import IGNORED
from stages.learning.backbones import Backbone


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(Pyramid(Backbone("resnet10t"), output_stride=16), classes=5)


def test_the_head_of_the_papers():
    head = fcn_head(2048, 21)
    convolutions = [layer for layer in head if isinstance(layer, nn.Conv2d)]
    facts = [(layer.in_channels, layer.out_channels, layer.kernel_size, layer.dilation) for layer in convolutions]
    assert facts == [(2048, 256, (3, 3), (6, 6)), (256, 256, (3, 3), (6, 6)), (256, 21, (1, 1), (1, 1))]
    assert head(torch.zeros(2, 2048, 9, 7)).shape == (2, 21, 9, 7)


@pytest.mark.parametrize("size", [(65, 65), (33, 49), (50, 64), (1, 80)])
def test_scores_at_the_centre_of_a_cell_are_the_cells(network, size):
    height, width = size
    pixels = torch.randint(256, (1, 3, height, width), dtype=torch.uint8)
    network.eval()
    with torch.no_grad():
        scores = network.scores(pixels)
        x = network.pyramid.normalise(pixels)
        filled = F.pad(x, (0, -(width - 1) % 16, 0, -(height - 1) % 16))
        cells = network.head(network.pyramid(filled)[-1])
    assert scores.shape == (1, 5, height, width)
    rows, columns = (height - 1) // 16 + 1, (width - 1) // 16 + 1
    torch.testing.assert_close(scores[..., ::16, ::16], cells[..., :rows, :columns], atol=1e-5, rtol=1e-4)


def test_networks_of_tokens_and_other_strides():
    for name, stride in (("vit_tiny_patch16_224", 16), ("conv4", 8)):
        network = SegmentationNetwork(Pyramid(Backbone(name)), classes=3).eval()
        assert network.pyramid.strides[-1] == stride
        with torch.no_grad():
            assert network.scores(torch.zeros(1, 3, 40, 52, dtype=torch.uint8)).shape == (1, 3, 40, 52)


def test_the_loss_is_the_mean_over_pixels_that_count(network):
    network.eval()  # so that both passes have the same batch norms
    pixels = torch.randint(256, (2, 3, 33, 33), dtype=torch.uint8)
    labels = torch.randint(5, (2, 33, 33), dtype=torch.int32)
    labels[0, :20] = IGNORED
    with torch.no_grad():
        loss, figures = network({"pixels": pixels, "labels": labels})
        scores = network.scores(pixels)
    kept = labels != IGNORED
    log_shares = scores.log_softmax(dim=1).permute(0, 2, 3, 1)[kept]
    truth = labels[kept].long()
    assert loss.item() == pytest.approx(-log_shares[torch.arange(len(truth)), truth].mean().item(), rel=1e-5)
    assert figures["pixel_accuracy"].item() == pytest.approx(
        (scores.argmax(dim=1)[kept] == truth).float().mean().item()
    )


def test_a_batch_of_ignored_pixels_teaches_nothing(network):
    network.train()
    labels = torch.full((2, 33, 33), IGNORED, dtype=torch.int32)
    loss, _ = network({"pixels": torch.zeros(2, 3, 33, 33, dtype=torch.uint8), "labels": labels})
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad.abs().max() == 0 for parameter in network.parameters() if parameter.requires_grad)
