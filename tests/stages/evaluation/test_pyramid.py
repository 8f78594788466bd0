"""Feature maps at every depth: the last is the backbone's own, and a dilated stage keeps its weights."""

from __future__ import annotations

import pytest
import torch
import torchvision

from stages.evaluation.pyramid import Pyramid
from stages.learning.backbones import Backbone

PIXELS = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "names", "strides"),
    [
        ("resnet18", ("conv1", "layer1", "layer2", "layer3", "layer4"), (2, 4, 8, 16, 32)),
        ("conv4", ("conv1", "conv2", "conv3", "conv4"), (2, 4, 8, 8)),
        ("vit_tiny_patch16_224", ("tokens",), (16,)),
    ],
)
def test_maps_strides_and_the_last_map(name: str, names: tuple[str, ...], strides: tuple[int, ...]) -> None:
    backbone = Backbone(name).eval()
    pyramid = Pyramid(backbone)
    with torch.inference_mode():
        maps = pyramid(pyramid.normalise(PIXELS))
        assert torch.equal(maps[-1], backbone(PIXELS))
    assert (pyramid.names, pyramid.strides) == (names, strides)
    assert [each.shape[1] for each in maps] == list(pyramid.channels)
    assert [tuple(each.shape[2:]) for each in maps] == [(64 // stride, 96 // stride) for stride in strides]
    assert not pyramid.training


def test_a_dilated_stage_computes_what_torchvision_computes() -> None:
    """The same weights in torchvision's network, whose dilation is by its own code: first block undilated there."""
    backbone = Backbone("resnet50").eval()
    peer = torchvision.models.resnet50().eval()
    peer.load_state_dict(backbone.net.state_dict(), strict=False)
    for module in peer.layer4.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation, module.padding = (2, 2), (2, 2)
    stem = torch.nn.Sequential(peer.conv1, peer.bn1, peer.relu, peer.maxpool, peer.layer1, peer.layer2, peer.layer3)
    pyramid = Pyramid(backbone, output_stride=16)
    x = pyramid.normalise(PIXELS)
    with torch.inference_mode():
        maps = pyramid(x)
        torch.testing.assert_close(maps[-1], peer.layer4(stem(x)))
    assert pyramid.strides == (2, 4, 8, 16, 16)


def test_shortcuts_that_pool_keep_the_resolution_too() -> None:
    assert Pyramid(Backbone("resnet10t").eval(), output_stride=16).strides[-1] == 16


def test_training_a_pyramid_trains_the_backbone() -> None:
    backbone = Backbone("conv4")
    pyramid = Pyramid(backbone)
    pyramid(pyramid.normalise(PIXELS))[-1].sum().backward()
    assert {id(each) for each in pyramid.parameters()} == {id(each) for each in backbone.parameters()}
    assert all(each.grad is not None for each in backbone.parameters())


def test_an_output_stride_for_resnets_alone() -> None:
    with pytest.raises(ValueError, match="'conv4' is none"):
        Pyramid(Backbone("conv4"), output_stride=16)
    with pytest.raises(ValueError, match="choose 32, or 16"):
        Pyramid(Backbone("resnet18"), output_stride=8)
