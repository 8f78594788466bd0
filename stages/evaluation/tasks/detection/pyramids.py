"""The maps that detectors stand on, made of a backbone's: FPN, ViTDet's simple pyramid, and the C4 trunk of ResNets.

Each is a module x (N, 3, H, W) normalised -> {"0": map, "1": map, ...}, finest first, float32 maps of `out_channels`,
as torchvision's detectors want it. `strides` are those of the maps, `divisor` is what sides of pictures must divide by.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from stages.evaluation.pyramid import Pyramid
from stages.learning.backbones import Backbone

CHANNELS = 256
_DIVISOR = 32  # of the coarsest map of a ResNet


class FeaturePyramid(nn.Module):
    """FPN on the maps of a backbone (Lin et al. 2017, arXiv:1612.03144, section 3).

    The backbone's deepest map of each stride takes part. Networks of tokens have one map alone; what stands on it is
    `SimplePyramid`.

    Args:
        finest: stride of the first map: 4 for Faster and Mask R-CNN (P2), 8 for FCOS (P3).
        extra: "pool": one coarser map, by taking every other value of the last one (R-CNN's P6). "convolution": two
            coarser maps, by convolutions of stride 2 (P6 and P7 of RetinaNet and FCOS).

    Batch norms follow the convolutions, as in the configurations of MoCo and InfoMin; several processes synchronise
    them.

    Raises:
        ValueError: the backbone has no map that is coarse enough.
    """

    def __init__(self, backbone: Backbone, *, finest: int, extra: Literal["pool", "convolution"]) -> None:
        super().__init__()
        self.pyramid = Pyramid(backbone)
        deepest = {stride: index for index, stride in enumerate(self.pyramid.strides)}
        self._taken = [index for stride, index in deepest.items() if stride >= finest]
        channels = [self.pyramid.channels[index] for index in self._taken]
        strides = [self.pyramid.strides[index] for index in self._taken]
        if not self._taken:
            raise ValueError(
                f"backbone '{backbone.name}' has no map of stride {finest} or more, which a detector needs; its "
                f"strides are {self.pyramid.strides}. Take another backbone, such as resnet50."
            )
        self.simple: SimplePyramid | None = None
        if backbone.of_tokens:
            self.simple = SimplePyramid(channels[0], strides[0], finest)
            strides = list(self.simple.strides)
            channels = [CHANNELS] * len(strides)
        levels = LastLevelMaxPool() if extra == "pool" else LastLevelP6P7(CHANNELS, CHANNELS)
        self.fpn = FeaturePyramidNetwork(channels, CHANNELS, levels, nn.BatchNorm2d)
        self.out_channels = CHANNELS
        self.pooled = [str(number) for number in range(len(strides))]  # the maps that regions are cut from
        coarser = 1 if extra == "pool" else 2
        self.strides = (*strides, *(strides[-1] * 2**number for number in range(1, coarser + 1)))
        self.divisor = math.lcm(_DIVISOR, *(strides if self.simple is None else self.pyramid.strides))

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.pyramid(x)
        chosen = [maps[index] for index in self._taken] if self.simple is None else self.simple(maps[-1])
        # Anchors take the type of the maps, and half precision has no exact coordinates beyond 256 (bf16) or 2048.
        return OrderedDict(
            (name, each.float()) for name, each in self.fpn(dict(zip(self.pooled, chosen, strict=True))).items()
        )


class SimplePyramid(nn.Module):
    """Maps of 1/4, 1/2, 1 and 2 times the stride of a transformer's last map (ViTDet: Li et al. 2022, arXiv:2203.16527,
    section 3 and appendix A.2), each of CHANNELS channels.

    Args:
        channels, stride: of the given map.
        finest: maps of smaller strides are left out.

    Attributes:
        strides: of the maps.
    """

    def __init__(self, channels: int, stride: int, finest: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        finer = nn.Sequential(
            nn.ConvTranspose2d(channels, half, 2, stride=2), LayerNorm2d(half), nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        )  # fmt: skip
        scaled: list[tuple[int, nn.Module, int]] = [
            (stride // 4, finer, quarter),
            (stride // 2, nn.ConvTranspose2d(channels, half, 2, stride=2), half),
            (stride, nn.Identity(), channels),
            (2 * stride, nn.MaxPool2d(2), channels),
        ]
        taken = [each for each in scaled if each[0] >= finest]
        self.strides = tuple(stride for stride, _, _ in taken)
        self.levels = nn.ModuleList(
            nn.Sequential(scale, nn.Conv2d(width, CHANNELS, 1, bias=False), LayerNorm2d(CHANNELS))
            for _, scale, width in taken
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return [level(x) for level in self.levels]


class C4Trunk(nn.Module):
    """A ResNet up to its third stage (C4, stride 16), the only map; its fourth stage is left for the head: `Res5`.

    Source: Ren et al. 2015 (arXiv:1506.01497) with the ResNets of He et al. 2016 (arXiv:1512.03385, appendix A).

    Args:
        backbone: its fourth stage is taken out of it.

    Attributes:
        res5: that stage, as a head.

    Raises:
        ValueError: the backbone is no ResNet.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        if not hasattr(backbone.net, "layer4"):
            raise ValueError(
                f"architecture 'c4' is for ResNets, and '{backbone.name}' is none: take architecture 'fpn' or 'fcos'."
            )
        pyramid = Pyramid(backbone)
        self.out_channels = pyramid.channels[-2]
        self.strides, self.divisor, self.pooled = (pyramid.strides[-2],), _DIVISOR, ["0"]
        self.res5 = Res5(backbone.net.layer4, pyramid.channels[-1])
        backbone.net.layer4 = nn.Identity()
        self.backbone = backbone

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        found = self.backbone.net.forward_intermediates(x, indices=[3], stop_early=True, intermediates_only=True)
        return OrderedDict({"0": found[-1].float()})


class Res5(nn.Module):
    """The fourth stage of a ResNet on each region, and one more batch norm (MoCo: He et al. 2020, arXiv:1911.05722,
    section 4.2.1, and `Res5ROIHeadsExtraNorm` of its code): features that were never fine-tuned have no scale that
    suits a detector. (R, C, 14, 14) -> (R, channels, 7, 7)."""

    def __init__(self, stage: nn.Module, channels: int) -> None:
        super().__init__()
        self.stage, self.norm, self.channels = stage, nn.BatchNorm2d(channels), channels

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.stage(x))
