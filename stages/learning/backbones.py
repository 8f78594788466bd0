"""Backbones: any timm network that yields a feature map, the widened ResNets of the papers, and a network so small that
it learns on a CPU; fed with raw pixels."""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from itertools import product
from typing import Any

import timm
import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_CONV4 = "conv4"
_WIDENED = re.compile(r"(resnet(?:50|101|152|200))w([2-4])")
_SEVERAL_SIZES: list[dict[str, Any]] = [{"dynamic_img_size": True}, {"strict_img_size": False}, {}]
_NO_POOLING: list[dict[str, Any]] = [{"global_pool": ""}, {}]
_READINGS = ("output", "last block, normed", "last block")  # where a network may have its feature map
_SMALLEST_SIDE, _SEARCHED_SIDES = 32, 64  # where a size that fits is looked for


class Backbone(nn.Module):
    """A network without its classifier. It normalises uint8 pixels itself, so that batches travel as bytes.

    Input (N, 3, H, W) uint8 RGB; output the last feature map (N, C, h, w), C = `channels`. Networks of tokens give
    their patch tokens, after the last norm, in their places; class and register tokens are left out. Transformers take
    views of several sizes where timm lets them (`dynamic_img_size`: position embeddings are resized).

    Weights start as timm has them. For ResNets that is Kaiming normal by fan out, and 0 for the scale of each residual
    branch's last batch norm, as in the code of BYOL and SimCLR (Goyal et al. 2017, section 5.1). The code of MoCo,
    DenseCL and ORL starts that scale at 1, and ORL's convolutions by fan in; as a batch norm follows each of them, that
    changes no output, but the relative size of the first updates.

    Parameters that have no part in the feature map, such as layers for the class token alone, are frozen: all others
    get a gradient in each step, as `DistributedDataParallel` requires.

    Args:
        name: a timm model such as "resnet50", "resnet200" or "vit_small_patch16_224"; or a ResNet of 50, 101, 152 or
            200 layers with 2 to 4 times as many channels everywhere, stem included: "resnet50w2" (BYOL, table 1; timm's
            wide_resnet50_2 widens only the 3 x 3 convolutions); or "conv4", see `_conv4`.

    Raises:
        ValueError: there is no such network, or it yields no feature map.
    """

    @torch.inference_mode(False)
    @torch.enable_grad()  # for the search below, wherever the network is made
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.net: Any = _create(name)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self._side: int = self.net.default_cfg["input_size"][-1]  # of the images that timm's weights are for
        feature_map = self._find_map()
        self.channels = feature_map.shape[1]
        parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(feature_map.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:
            raise TypeError(f"a backbone takes uint8 pixels in 0..255 and normalises them itself, not {images.dtype}")
        try:
            return self.feature_map(self.normalise(images))
        except Exception as error:  # what fails is raised again, in better words where the cause is the size
            self._explain(error, *images.shape[-2:])
            raise

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels as the network wants them, by ImageNet's mean and deviation. (N, 3, H, W) in 0..255; float32."""
        x = (images.float() - self.mean) / self.std
        return x.contiguous(memory_format=self.layout())

    @torch.no_grad()
    def map_side(self, size: int) -> int:
        """Side of the feature map of an image of `size` x `size` pixels. Costs one pass of the network.

        Raises:
            ValueError: the network takes no images of that size.
        """
        training = self.training
        try:
            return self.eval()(torch.zeros_like(self._black(size, size), dtype=torch.uint8)).shape[-1]
        finally:
            self.train(training)

    def layout(self) -> torch.memory_format:
        """That of the convolutions' weights: see `devices.memory_format`."""
        weights = (p for p in self.net.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1)
        planar = next(weights, self.mean).is_contiguous()
        return torch.contiguous_format if planar else torch.channels_last

    @property
    def of_tokens(self) -> bool:
        """Whether the feature map is made of tokens, as in transformers: they have one resolution at all depths."""
        return self._reading != "output"

    def feature_map(self, x: Tensor) -> Tensor:
        """The last feature map. x: (N, 3, H, W) normalised. Returns (N, C, h, w)."""
        if self._reading == "output":
            output = self.net(x)
            return output.permute(0, 3, 1, 2) if getattr(self.net, "output_fmt", "NCHW") == "NHWC" else output
        normed = self._reading == "last block, normed"
        return self.net.forward_intermediates(x, indices=1, norm=normed, output_fmt="NCHW", intermediates_only=True)[-1]

    def _find_map(self) -> Tensor:
        """The feature map of a black image, by the first reading that gives one, which is kept."""
        self.net.eval()
        reason = ""
        # Most networks take small images too, and a transformer for 768 pixels would need minutes for its own.
        for side in sorted({min(self._side, 224), self._side}):
            for self._reading in _READINGS:
                try:
                    feature_map = self.feature_map(self._black(side, side))
                    if feature_map.ndim == 4 and feature_map[0, 0].numel() > 1:
                        self.net.train()
                        return feature_map
                    reason = reason or f"its output is {tuple(feature_map.shape)}"
                except Exception as error:  # whatever a network does that has no such reading
                    reason = reason or _first_line(error)
        raise ValueError(
            f"backbone '{self.name}' yields no feature map (N, C, h, w): {reason}. "
            "Choose another one, such as resnet50 or vit_small_patch16_224."
        )

    @torch.compiler.disable
    def _explain(self, error: Exception, height: int, width: int) -> None:
        """Raises a ValueError if the cause of `error` is the size of the images."""
        if isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError)) or self._fits(height, width):
            return
        even = (max(height, width) + 1) // 2 * 2
        below = (s for s in range(even - 2, _SMALLEST_SIDE - 1, -2) if self._fits(s, s))
        above = (s for s in range(even, even + _SEARCHED_SIDES, 2) if self._fits(s, s))
        sides = sorted({next(below, self._side), next(above, self._side), self._side})
        raise ValueError(
            f"backbone '{self.name}' takes no images of {width} x {height} pixels: {_first_line(error)}. Squares of "
            f"{' or '.join(map(str, sides))} pixels fit. Convolutional backbones such as resnet50 take all sizes."
        ) from error

    @torch.no_grad()
    def _fits(self, height: int, width: int) -> bool:
        training = self.net.training
        try:
            self.net.eval()
            self.feature_map(self._black(height, width))
        except Exception:  # timm's networks have no error of their own for images of a wrong size
            return False
        finally:
            self.net.train(training)
        return True

    def _black(self, height: int, width: int) -> Tensor:
        return self.mean.new_zeros((1, 3, height, width))


def _create(name: str) -> Any:
    if widened := _WIDENED.fullmatch(name):
        return _widened_resnet(widened[1], int(widened[2]))
    if name == _CONV4:
        return _conv4()
    if name not in timm.list_models():
        known = [*timm.list_models(), "resnet50w2", "resnet50w4", "resnet200w2", _CONV4]
        close = difflib.get_close_matches(name, known, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"backbone '{name}' is not a timm model.{hint} `timm.list_models()` lists all.")
    # Not all networks take images of several sizes or can go without pooling, and timm has no list of those that do.
    for sizes, pooling in product(_SEVERAL_SIZES, _NO_POOLING):
        with suppress(TypeError, AssertionError):
            return timm.create_model(name, pretrained=False, num_classes=0, **sizes, **pooling)
    return timm.create_model(name, pretrained=False, num_classes=0)  # so that its own error shows


def _widened_resnet(name: str, factor: int) -> Any:
    """A ResNet with `factor` times as many channels in each layer.

    timm widens the stem only of three 3 x 3 convolutions, so that one is asked for and then replaced.
    """
    net: Any = timm.create_model(
        name, pretrained=False, num_classes=0, global_pool="",
        channels=tuple(factor * width for width in (64, 128, 256, 512)), stem_type="deep", stem_width=32 * factor,
    )  # fmt: skip
    net.conv1 = nn.Conv2d(3, 64 * factor, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    return net


def _conv4() -> nn.Sequential:
    """Four 3 x 3 convolutions to 32, 64, 128 and 256 channels, each with batch norm and ReLU; 0.39 million weights.

    As Conv-4 of few-shot learning (Vinyals et al. 2016, arXiv:1606.04080, section 4.1), but with strides in place of
    pooling and widths that double, which at 64 pixels is half the work. The last stride is 1: the map has an eighth of
    the image's side, 8 x 8 places at 64 pixels, about as many as a ResNet has at 224.
    """
    layers: list[nn.Module] = []
    channels = 3
    for width, stride in ((32, 2), (64, 2), (128, 2), (256, 1)):
        convolution = nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        channels = width
    network: Any = nn.Sequential(*layers)
    network.default_cfg = {"input_size": (3, 64, 64)}
    return network


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
