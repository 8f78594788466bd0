"""Detectron2: a checkpoint for `MODEL.WEIGHTS` of its R-CNNs on ResNets, with FPN or C4.

Detectron2 has no package that could be installed from a registry, so the file is tried on `DetectronResNet`, a network
with Detectron2's names, strides and paddings (its `modeling/backbone/resnet.py`, with STRIDE_IN_1X1 False).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from stages.exchange.backbones.pixels import mean_and_std
from stages.learning.backbones import Backbone

SUFFIXES: tuple[str, ...] = (".pth",)
# By its heuristics Detectron2 matches names by their ends: `stem` is found in the `backbone.bottom_up` of an FPN, and
# `res5` in the box head of a C4 model.
ENVELOPE: Mapping[str, Any] | None = {"__author__": "orl-pipeline", "matching_heuristics": True}

# Blocks in each stage, and whether they are bottlenecks -> MODEL.RESNETS.DEPTH.
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
_RENAMINGS = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)


@dataclass(frozen=True)
class _Shape:
    """A ResNet in the words of Detectron2's MODEL.RESNETS."""

    depth: int
    blocks: tuple[int, ...]
    bottleneck: bool
    stem_out_channels: int
    res2_out_channels: int
    num_groups: int
    width_per_group: int


def tensors(backbone: Backbone) -> dict[str, Tensor]:
    return {_renamed(name): tensor for name, tensor in backbone.net.state_dict().items()}


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMINGS:
        name = re.sub(pattern, replacement, name)
    return name


def network(backbone: Backbone) -> nn.Module:
    return DetectronResNet(_shape(backbone))


def outputs(backbone: Backbone, network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of both, the map of the last stage."""
    return backbone.feature_map(x), network(x)


def usage(backbone: Backbone, path: Path) -> str:
    """The configuration that the weights need. Detectron2's defaults are Caffe's: BGR, other strides, frozen stem."""
    shape = _shape(backbone)
    mean, std = mean_and_std(backbone)
    return f"""\
MODEL:
  WEIGHTS: {path}
  PIXEL_MEAN: {mean}
  PIXEL_STD: {std}
  BACKBONE: {{FREEZE_AT: 0}}
  RESNETS:
    DEPTH: {shape.depth}
    STRIDE_IN_1X1: False
    NORM: SyncBN
    STEM_OUT_CHANNELS: {shape.stem_out_channels}
    RES2_OUT_CHANNELS: {shape.res2_out_channels}
    NUM_GROUPS: {shape.num_groups}
    WIDTH_PER_GROUP: {shape.width_per_group}
INPUT: {{FORMAT: RGB}}"""


def _shape(backbone: Backbone) -> _Shape:
    net: Any = backbone.net
    stages: list[Any] = [getattr(net, f"layer{number}", None) for number in range(1, 5)]
    if not all(isinstance(stage, nn.Sequential) for stage in stages) or not isinstance(net.conv1, nn.Conv2d):
        raise ValueError(
            f"Detectron2's checkpoints for R-CNNs are ResNets, and {backbone.name} is none with a stem of one 7 x 7 "
            "convolution. Export to timm or safetensors."
        )
    first = net.layer1[0]
    blocks, bottleneck = tuple(len(stage) for stage in stages), hasattr(first, "conv3")
    if (blocks, bottleneck) not in _DEPTHS:
        known = ", ".join(map(str, _DEPTHS.values()))
        raise ValueError(
            f"Detectron2 builds no {backbone.name} with {blocks} blocks, only ResNets of {known} layers. Export to "
            "timm or safetensors."
        )
    groups = first.conv2.groups
    return _Shape(
        depth=_DEPTHS[blocks, bottleneck],
        blocks=blocks,
        bottleneck=bottleneck,
        stem_out_channels=net.conv1.out_channels,
        res2_out_channels=(first.conv3 if bottleneck else first.conv2).out_channels,
        num_groups=groups,
        width_per_group=first.conv1.out_channels // groups,
    )


class DetectronResNet(nn.Module):
    """A ResNet laid out as Detectron2's. Input (N, 3, H, W) normalised, output `res5`."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.stem = _Stem(shape.stem_out_channels)
        self.res2, self.res3, self.res4, self.res5 = (self._stage(shape, number) for number in range(4))

    @staticmethod
    def _stage(shape: _Shape, number: int) -> nn.Sequential:
        """Stage 0 to 3, each with twice the channels of the one before and half its resolution, but the first."""
        out = shape.res2_out_channels * 2**number
        width = shape.num_groups * shape.width_per_group * 2**number
        stage = nn.Sequential()
        for place in range(shape.blocks[number]):
            channels = out if place else (out // 2 if number else shape.stem_out_channels)
            stride = 2 if number and not place else 1
            if shape.bottleneck:
                stage.append(_Bottleneck(channels, width, out, stride, shape.num_groups))
            else:
                stage.append(_Basic(channels, out, stride))
        return stage

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
        return x


class _NormedConv(nn.Conv2d):
    """A convolution that owns its batch norm, which is how Detectron2 names the two."""

    def __init__(self, channels: int, out: int, size: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, size, stride=stride, padding=size // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class _Stem(nn.Module):
    def __init__(self, out: int) -> None:
        super().__init__()
        self.conv1 = _NormedConv(3, out, 7, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.conv1(x)), 3, stride=2, padding=1)


class _Residual(nn.Module):
    """What basic and bottleneck blocks share: a projected shortcut where the number of channels changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.shortcut = _NormedConv(channels, out, 1, stride=stride) if channels != out else nn.Identity()

    def branch(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


class _Basic(_Residual):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__(channels, out, stride)
        self.conv1 = _NormedConv(channels, out, 3, stride=stride)
        self.conv2 = _NormedConv(out, out, 3)

    def branch(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x)))


class _Bottleneck(_Residual):
    def __init__(self, channels: int, width: int, out: int, stride: int, groups: int) -> None:
        super().__init__(channels, out, stride)
        self.conv1 = _NormedConv(channels, width, 1)
        self.conv2 = _NormedConv(width, width, 3, stride=stride, groups=groups)
        self.conv3 = _NormedConv(width, out, 1)

    def branch(self, x: Tensor) -> Tensor:
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
