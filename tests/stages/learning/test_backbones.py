"""Backbones: feature maps of networks of all kinds, in their places; names, sizes and networks that do not fit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from stages.learning import backbones
from stages.learning.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone


def photos(height: int, width: int, n: int = 2) -> Tensor:
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def normalised(images: Tensor) -> Tensor:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize(
    ("name", "channels", "stride"),
    [
        ("test_resnet", 96, 32),
        ("test_efficientnet", 256, 32),
        ("test_convnext", 64, 32),
        ("test_vit", 64, 16),  # tokens behind a class token
        ("test_vit3", 96, 16),
        ("test_mambaout", 256, 32),  # (N, h, w, C) inside
        ("swin_tiny_patch4_window7_224", 768, 32),  # (N, h, w, C) inside, a transformer
        ("inception_next_atto", 320, 32),  # its pooling can't be turned off
        ("conv4", 256, 8),
    ],
)
def test_the_map_has_channels_first_and_each_place_where_it_is_in_the_photo(name: str, channels: int, stride: int):
    torch.manual_seed(0)
    backbone = Backbone(name).eval()
    assert backbone.channels == channels
    images = photos(128, 256)
    changed = images.clone()
    changed[:, :, 64:, :128] = 255 - changed[:, :, 64:, :128]  # the lower left quarter
    with torch.no_grad():
        before, after = backbone(images), backbone(changed)
    height, width = 128 // stride, 256 // stride
    assert before.shape == (2, channels, height, width)
    quarters = (after - before).norm(dim=1).view(2, 2, height // 2, 2, width // 2).mean(dim=(0, 2, 4))
    assert quarters.flatten().argmax() == 2


def test_a_network_that_ends_in_a_classifiers_layers_gives_the_map_before_them():
    with torch.device("meta"):
        assert Backbone("vgg11").channels == 512  # and not (N, 4096, 1, 1)


def test_a_convolutional_backbone_is_timms_own():
    backbone, images = Backbone("test_resnet").eval(), photos(64, 64)
    torch.testing.assert_close(backbone(images), backbone.net.forward_features(normalised(images)))


def test_tokens_are_the_patches_after_the_last_norm_without_those_before_them():
    backbone, images = Backbone("test_vit3").eval(), photos(160, 160)
    tokens = backbone.net.forward_features(normalised(images))  # (N, prefix + L, C)
    patches = tokens[:, backbone.net.num_prefix_tokens :]
    assert patches.shape[1] == 100
    torch.testing.assert_close(backbone(images).flatten(2).transpose(1, 2), patches)


def test_a_transformer_takes_views_of_several_sizes():
    backbone = Backbone("test_vit")
    assert backbone(photos(96, 96)).shape == (2, 64, 6, 6)
    assert backbone(photos(224, 224)).shape == (2, 64, 14, 14)


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [("test_resnet", 224, 7), ("test_resnet", 100, 4), ("test_vit", 224, 14), ("conv4", 64, 8), ("conv4", 65, 9)],
)
def test_the_side_of_the_map_is_known_before_there_are_images(name: str, size: int, side: int):
    with torch.device("meta"):  # no weight is drawn, nothing is computed
        assert Backbone(name).map_side(size) == side
    backbone = Backbone(name)
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    assert backbone.map_side(size) == side
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())
    assert backbone.training
    assert backbone(photos(size, size)).shape[-2:] == (side, side)


def test_the_side_of_a_map_that_there_cannot_be_is_refused():
    with torch.device("meta"), pytest.raises(ValueError, match=r"takes no images of 100 x 100 .* 96 or 112"):
        Backbone("test_vit").map_side(100)


@pytest.mark.parametrize(
    ("name", "side", "fitting"), [("test_vit_relpos", 96, "160"), ("test_vit", 100, "96 or 112 or 160")]
)
def test_a_size_that_does_not_fit_is_answered_with_sizes_that_do(name: str, side: int, fitting: str):
    backbone = Backbone(name)
    with pytest.raises(ValueError, match=f"{name}' takes no images of {side} x {side} .* Squares of {fitting} pixels"):
        backbone(photos(side, side))
    assert backbone.net.training


def test_an_error_of_another_cause_is_not_laid_on_the_size():
    backbone = Backbone("test_resnet")

    def fails(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if len(inputs[0]) > 1:
            raise RuntimeError("out of luck")

    backbone.net.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="out of luck"):
        backbone(photos(64, 64))


def test_float_images_are_refused():
    with pytest.raises(TypeError, match="uint8 pixels"):
        Backbone("test_resnet")(torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet5O", "resnet50"), ("resnet50x2", "resnet50w2"), ("conv_4", "conv4")]
)
def test_an_unknown_name_is_answered_with_near_ones(name: str, hint: str):
    with pytest.raises(ValueError, match=f"'{name}' is not a timm model. Did you mean .*{hint}"):
        Backbone(name)


def test_a_network_without_a_map_is_refused_before_any_training(monkeypatch: pytest.MonkeyPatch):
    classifier = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier.default_cfg = {"input_size": (3, 64, 64)}
    monkeypatch.setattr(backbones, "_create", lambda name: classifier)
    with pytest.raises(ValueError, match=r"'mine' yields no feature map .* its output is \(1, 8\)"):
        Backbone("mine")


@pytest.mark.parametrize(
    ("name", "millions", "channels"),
    [  # BYOL, table 1 and figure 1: 24, 94, 375 and 250 million
        ("resnet50", 23.5, 2048),
        ("resnet50w2", 93.9, 4096),
        ("resnet50w4", 375.4, 8192),
        ("resnet200w2", 250.1, 4096),
        ("resnet101", 42.5, 2048),
        ("resnet152", 58.1, 2048),
        ("resnet200", 62.6, 2048),
    ],
)
def test_resnets_have_the_papers_sizes(name: str, millions: float, channels: int):
    with torch.device("meta"):  # shapes alone, which takes no time
        backbone = Backbone(name)
    assert sum(parameter.numel() for parameter in backbone.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert backbone.channels == channels
    assert backbone.net.conv1.weight.shape == (channels // 32, 3, 7, 7), "the stem is as wide as the rest"


def test_resnets_start_as_documented():
    net = Backbone("resnet50").net
    for block in net.layer1:
        assert not block.bn3.weight.any()
        assert (block.bn2.weight == 1).all()
    for conv in (net.layer1[0].conv1, net.layer1[0].conv3, net.layer2[0].conv2):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)


def test_conv4_is_four_convolutions_of_small_cost():
    backbone = Backbone("conv4")
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    assert [convolution.out_channels for convolution in convolutions] == [32, 64, 128, 256]
    weights = 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256)  # and 2 a channel in the batch norms
    assert sum(parameter.numel() for parameter in backbone.parameters()) == weights + 2 * (32 + 64 + 128 + 256)
    assert backbone(photos(64, 64)).shape == (2, 256, 8, 8), "about the places of a ResNet at 224 pixels"


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_vit_relpos", "pit_ti_224", "inception_next_atto"])
def test_what_is_not_frozen_gets_a_gradient(name: str):
    backbone = Backbone(name)
    backbone(photos(160, 160) if name.startswith("test") else photos(224, 224)).sum().backward()
    for parameter in backbone.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
    frozen = sum(not parameter.requires_grad for parameter in backbone.parameters())
    assert frozen == {"test_vit_relpos": 2, "pit_ti_224": 2, "inception_next_atto": 4}.get(name, 0)


def test_making_one_draws_no_more_than_its_weights():
    torch.manual_seed(0)
    backbones._create("test_resnet")
    expected = torch.rand(())
    torch.manual_seed(0)
    Backbone("test_resnet")
    assert torch.rand(()) == expected


def test_a_copy_has_weights_of_its_own():
    backbone = Backbone("test_vit").eval()
    copied = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
    assert not backbone(photos(64, 64)).any()
    assert copied(photos(64, 64)).any()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_it_compiles_into_one_graph(name: str):
    backbone, images = Backbone(name).eval(), photos(64, 64)
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), backbone(images))
