"""The feature maps of a backbone at every depth: what probes, detectors and segmentation heads stand on."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import AvgPool2dSame
from torch import Tensor, nn

from stages.learning.backbones import Backbone

_STEM_NAMES = {"act1": "conv1"}  # timm's name of what the papers call conv1
_PROBED_SIDE = 256


class Pyramid(nn.Module):
    """A backbone that gives the map of each of its stages. Its parameters are the backbone's own: training one trains
    the other.

    Convolutional networks have a map a stage, such as conv1 and layer1 to layer4 (C1 to C5) of ResNets. Networks of
    tokens have one resolution and give their last map alone. The last map is that of `Backbone`.

    Args:
        backbone: with its weights. With `output_stride` 16 it is changed in place.
        output_stride: 32, or 16: the last stage of a ResNet keeps the resolution of the one before, its 3 x 3
            convolutions dilated by 2 (MoCo's and BYOL's segmentation: Grill et al. 2020, appendix D.4).

    Attributes:
        names, channels, strides: of the maps, shallow to deep. A stride is in pixels of the image.

    Raises:
        ValueError: the network can't have that output stride.
    """

    def __init__(self, backbone: Backbone, *, output_stride: int = 32) -> None:
        super().__init__()
        self.backbone = backbone
        if output_stride == 16:
            _dilate_last_stage(backbone)
        elif output_stride != 32:
            raise ValueError(f"output_stride={output_stride} is unknown: choose 32, or 16 for a dilated last stage.")
        self._stages = self._find_stages()
        side = _PROBED_SIDE if not backbone.of_tokens else backbone.net.default_cfg["input_size"][-1]
        training = backbone.training
        with torch.no_grad():
            maps = self.eval()(backbone.mean.new_zeros((1, 3, side, side)))
        self.train(training)
        self.names: tuple[str, ...] = self._names(len(maps))
        self.channels: tuple[int, ...] = tuple(each.shape[1] for each in maps)
        self.strides: tuple[int, ...] = tuple(round(side / each.shape[-1]) for each in maps)

    def normalise(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in 0..255 of any type, to what `forward` takes."""
        return self.backbone.normalise(pixels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps, shallow to deep, each (N, C, h, w). x: (N, 3, H, W) float, normalised."""
        net: Any = self.backbone.net
        x = x.contiguous(memory_format=self.backbone.layout())
        if self.backbone.of_tokens:
            return [self.backbone.feature_map(x)]
        if self._stages:  # a plain sequence of layers
            maps = []
            for number, layer in enumerate(net):
                x = layer(x)
                if number in self._stages:
                    maps.append(x)
            return maps
        last, maps = net.forward_intermediates(x, output_fmt="NCHW")
        last = net.forward_head(last)  # without classifier and pooling: at most a last norm
        if getattr(net, "output_fmt", "NCHW") == "NHWC":
            last = last.permute(0, 3, 1, 2)
        return [*maps[:-1], last]

    def _find_stages(self) -> tuple[int, ...]:
        """Of a plain sequence: the layers after which a map is taken, its activations."""
        if not isinstance(self.backbone.net, nn.Sequential):
            return ()
        return tuple(number for number, layer in enumerate(self.backbone.net) if isinstance(layer, nn.ReLU))

    def _names(self, maps: int) -> tuple[str, ...]:
        if self.backbone.of_tokens:
            return ("tokens",)
        if self._stages:
            return tuple(f"conv{number}" for number in range(1, maps + 1))
        modules = [stage["module"] for stage in self.backbone.net.feature_info]
        return tuple(_STEM_NAMES.get(name, name) for name in modules)


def _dilate_last_stage(backbone: Backbone) -> None:
    stage = getattr(backbone.net, "layer4", None)
    if stage is None:
        raise ValueError(f"an output stride of 16 is for ResNets, and '{backbone.name}' is none: say output_stride 32.")
    for module in list(stage.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
                if layer.kernel_size == (3, 3):
                    layer.dilation = layer.padding = (2, 2)
            elif isinstance(layer, nn.AvgPool2d):  # before the shortcut's convolution, in ResNet-D and its kin
                setattr(module, name, AvgPool2dSame(2, 1, ceil_mode=True, count_include_pad=False))
