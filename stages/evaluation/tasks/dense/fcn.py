"""The fully convolutional network of MoCo and BYOL: a backbone with an output stride of 16, and a small head.

Sources: He et al. (arXiv:1911.05722), appendix; Grill et al. (arXiv:2006.07733), appendix D.4.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.evaluation.pyramid import Pyramid
from stages.evaluation.tasks.dense.label_styles import IGNORED

CHANNELS = 256
DILATION = 6


def fcn_head(channels: int, classes: int) -> nn.Sequential:
    """Two 3 x 3 convolutions with batch norm and ReLU, then a linear classifier of each cell.

    Weights start as Kaiming normal, the classifier's at a deviation of 0.01; the papers don't say.
    """
    layers: list[nn.Module] = []
    for width in (channels, CHANNELS):
        convolution = nn.Conv2d(width, CHANNELS, 3, padding=DILATION, dilation=DILATION, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers += [convolution, nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)]
    classifier = nn.Conv2d(CHANNELS, classes, 1)
    nn.init.normal_(classifier.weight, std=0.01)
    return nn.Sequential(*layers, classifier)


class SegmentationNetwork(nn.Module):
    """Scores of the classes for each pixel: those of the cells of the last map, enlarged bilinearly.

    Cell i of a network with padded convolutions (ResNets) is centred on pixel s i, s being the stride. So photos are
    filled up to s k + 1 pixels a side, which 513 and 769 of the protocols are, and the k + 1 cells are laid on the grid
    from corner to corner. Cells of tokens are centred in their patches: there sides are filled up to s k.

    Args:
        pyramid: its last map is used.
    """

    def __init__(self, pyramid: Pyramid, *, classes: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.head = fcn_head(pyramid.channels[-1], classes)
        self._stride = pyramid.strides[-1]
        self._corners = not pyramid.backbone.of_tokens and _cells_on_corners(pyramid)

    def scores(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 RGB -> (N, K, H, W)."""
        height, width = pixels.shape[-2:]
        extra = int(self._corners)
        down, right = (-(side - extra) % self._stride for side in (height, width))
        x = F.pad(self.pyramid.normalise(pixels), (0, right, 0, down))  # 0 is the mean colour
        cells = self.head(self.pyramid(x)[-1])
        scores = F.interpolate(cells.float(), x.shape[-2:], mode="bilinear", align_corners=self._corners)
        return scores[..., :height, :width]

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy, mean over the pixels whose class counts; logs the share of them that is called rightly.

        batch: `pixels` (N, 3, S, S) uint8; `labels` (N, S, S) int32, classes or IGNORED.
        """
        labels = batch["labels"].long()
        scores = self.scores(batch["pixels"])
        counted = (labels != IGNORED).sum().clamp(min=1)  # a batch of ignored pixels alone teaches nothing
        loss = F.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="sum") / counted
        with torch.no_grad():
            accuracy = (scores.argmax(dim=1) == labels).sum() / counted
        return loss, {"pixel_accuracy": accuracy}


@torch.no_grad()
def _cells_on_corners(pyramid: Pyramid) -> bool:
    """Whether s k + 1 pixels give k + 1 cells, as where all convolutions are padded by half their kernel."""
    training, stride = pyramid.training, pyramid.strides[-1]
    cells = pyramid.eval()(torch.zeros(1, 3, 2 * stride + 1, 2 * stride + 1))[-1].shape[-1]
    pyramid.train(training)
    return cells == 3
