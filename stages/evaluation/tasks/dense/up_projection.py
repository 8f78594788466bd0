"""The depth network of Laina et al. (arXiv:1606.00373) on any backbone: up-projections and the reverse Huber loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.evaluation.pyramid import Pyramid

CHANNELS = (512, 256, 128, 64)  # BYOL, appendix D.6
_SHARE = 0.2  # of the largest error of a batch: from there on the loss is quadratic


class UpProjection(nn.Module):
    """Twice the resolution: unpooling, a 5 x 5 convolution, ReLU and a 3 x 3 one, beside a projection of its own.

    Unpooling puts each cell into the upper left of 2 x 2, zeros elsewhere. With the convolution that follows it is a
    transposed convolution of stride 2, which multiplies no zeros: the paper's "fast" up-projection (section 3.2) by
    another name. Batch norm follows each convolution, as in the authors' code.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _unpool(channels, out), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.projection = nn.Sequential(_unpool(channels, out), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, out, 2h, 2w)."""
        return F.relu(self.branch(x) + self.projection(x))


def _unpool(channels: int, out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, out, 5, stride=2, padding=2, output_padding=1, bias=False)


class DepthNetwork(nn.Module):
    """Depth in metres of each pixel, from the last map: a 1 x 1 convolution to half the channels, up-projections to a
    stride of 2 (four from ResNet's 32), a 3 x 3 convolution, and bilinear enlargement.

    Photos are filled up to a multiple of the stride, so that the map covers just what it is enlarged to.
    """

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        self.pyramid = pyramid
        self._stride = pyramid.strides[-1]
        half = max(1, pyramid.channels[-1] // 2)
        widths = (half, *CHANNELS[: int(math.log2(self._stride)) - 1])
        self.head = nn.Sequential(
            nn.Conv2d(pyramid.channels[-1], half, 1, bias=False),
            nn.BatchNorm2d(half),
            *(UpProjection(*each) for each in pairwise(widths)),
            nn.Conv2d(widths[-1], 1, 3, padding=1),
        )

    def depth(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 RGB -> (N, H, W) metres."""
        height, width = pixels.shape[-2:]
        x = self.pyramid.normalise(pixels)
        x = F.pad(x, (0, -width % self._stride, 0, -height % self._stride))  # 0 is the mean colour
        depth = self.head(self.pyramid(x)[-1])
        enlarged = F.interpolate(depth.float(), x.shape[-2:], mode="bilinear", align_corners=False)
        return enlarged[:, 0, :height, :width]

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """batch: `pixels` (N, 3, H, W) uint8; `depth` (N, H, W) float32, metres, 0 where nothing was measured."""
        measured = batch["depth"] > 0
        error = self.depth(batch["pixels"])[measured] - batch["depth"][measured]
        loss = reverse_huber(error)
        return loss, {"rms": error.detach().square().sum().div(max(1, error.numel())).sqrt()}


def reverse_huber(error: Tensor) -> Tensor:
    """Mean over the pixels of

        |x| for |x| <= c,  (x^2 + c^2) / (2 c) beyond,   c = max |x| / 5 over the batch

    Source: section 3.3, equation 4. c is a constant to the gradient.

    Args:
        error: (n,) metres; without a pixel the loss is 0.
    """
    size = error.abs()
    if size.numel() == 0:
        return error.sum()
    c = (_SHARE * size.detach().max()).clamp(min=torch.finfo(size.dtype).tiny)
    return torch.where(size <= c, size, (size.square() + c.square()) / (2 * c)).mean()
