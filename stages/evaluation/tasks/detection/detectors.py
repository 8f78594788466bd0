"""torchvision's detectors on a pretrained backbone, as modules that `train_task` trains and `inference` asks.

Anchors are squares of 8 strides and their 1:2 and 2:1 kin, one size a map: 32 to 512 pixels on P2 to P6 (FPN, section
4.1). C4 has the five sizes on its one map.

Where torchvision differs from Detectron2, which the papers used, it is left as it is: RoIAlign takes 2 x 2 samples a
bin and shifts nothing by half a pixel (Detectron2: as many samples as fit, `aligned`); the losses of boxes are
quadratic below 1/9 (Detectron2: L1 throughout). See docs/fidelity.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from stages.evaluation.tasks.detection.pyramids import CHANNELS, C4Trunk, FeaturePyramid
from stages.learning.backbones import Backbone

Architecture = Literal["fpn", "fpn_2fc", "c4", "fcos"]

_RATIOS = (0.5, 1.0, 2.0)
_C4_SIZES = (32, 64, 128, 256, 512)
_LEAST_SCORE = 0.05  # of a detection
_HIDDEN = 1024  # units of a box head's linear layers
# Proposals of the RPN before suppression (of FPN, on each map) and after it, per proposal kept at test; Detectron2's
# numbers with its 1,000: (before in training, before at test, after in training).
_PROPOSALS = {"fpn": (2, 1, 1), "fpn_2fc": (2, 1, 1), "c4": (12, 6, 2)}


class Detector(nn.Module):
    """One of torchvision's detectors, between a batch of `photos` and a table of detections.

    In train mode `forward(batch)` is the sum of its losses and each of them, as `train_task` wants it.

    Args:
        network: a torchvision detector.
        trunk: what it stands on; has `divisor`.
        backbone: whose pixels it takes.
        fixed: modules that are not trained: their parameters take no gradient, their batch norms keep their statistics.
        background: category numbers of `network` start at 1, as 0 is the background.
    """

    def __init__(
        self, network: Any, trunk: Any, backbone: Backbone, *, fixed: Iterable[nn.Module], background: bool
    ) -> None:
        super().__init__()
        self.network = network
        network.transform = _Padding(backbone, trunk.divisor)
        self._fixed = tuple(fixed)
        self._first_label = int(background)
        for module in self._fixed:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> Detector:
        super().train(mode)
        for module in self._fixed:
            module.eval()
        return self

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        targets = [{**target, "labels": target["labels"] + self._first_label} for target in batch["targets"]]
        losses = self.network(batch["pixels"], targets)
        return torch.stack(list(losses.values())).sum(), {name: loss.detach() for name, loss in losses.items()}

    @torch.inference_mode()
    def detect(self, pixels: Tensor) -> dict[str, Tensor]:
        """The detections in one photo, best first; in eval mode.

        Args:
            pixels: (3, h, w) uint8 RGB.

        Returns:
            boxes (m, 4) float32 in these pixels, labels (m,) int64, scores (m,) float32, and of a detector with masks
            masks (m, 1, 28, 28) float32, the probability of each part of the box.
        """
        found = self.network([pixels])[0]
        return {**found, "labels": found["labels"] - self._first_label, "scores": found["scores"].float()}


def build_detector(
    backbone: Backbone,
    categories: int,
    *,
    architecture: Architecture,
    masks: bool,
    frozen: bool,
    regions: int = 512,
    proposals: int = 1000,
    detections: int = 100,
) -> Detector:
    """A detector with the weights of `backbone`; all else is drawn from torch's generator.

    Args:
        categories: without the background.
        architecture: "fpn": Faster R-CNN on FPN (P2 to P6), the box head four convolutions and a linear layer, batch
            norms in FPN and in all heads (InfoMin's configuration, which ORL uses). "fpn_2fc": the same with a box head
            of two linear layers, batch norms in FPN alone (He et al. 2017; MoCo's and OpenSelfSup's configuration).
            "c4": Faster R-CNN on the third stage of a ResNet, the fourth with one more norm as its head (MoCo on VOC).
            "fcos": FCOS (Tian et al. 2019, arXiv:1904.01355) on P3 to P7.
        masks: Mask R-CNN instead of Faster R-CNN.
        frozen: the backbone keeps its weights and statistics (DetCon, arXiv:2103.10957, section 4.2).
        regions: that an R-CNN's heads learn from in a photo, a quarter of them objects where there are so many.
        proposals: that an R-CNN's heads look at in a photo.
        detections: at most, in a photo.

    Raises:
        ValueError: FCOS with masks, or a backbone that doesn't fit.
    """
    if architecture == "fcos":
        if masks:
            raise ValueError(
                "FCOS finds boxes alone: choose architecture 'fpn', 'fpn_2fc' or 'c4' for masks, or masks=false."
            )
        return _fcos(backbone, categories, frozen, detections)
    if architecture == "c4":
        trunk: Any = C4Trunk(backbone)
        heads = _c4_heads(trunk, categories, masks)
        anchors = _anchors([_C4_SIZES])
    else:
        trunk = FeaturePyramid(backbone, finest=4, extra="pool")
        heads = _fpn_heads(trunk, categories, masks, normed=architecture == "fpn")
        anchors = _anchors([(8 * stride,) for stride in trunk.strides])
    before_training, before_test, after_training = (factor * proposals for factor in _PROPOSALS[architecture])
    network = (MaskRCNN if masks else FasterRCNN)(
        trunk,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=before_training,
        rpn_pre_nms_top_n_test=before_test,
        rpn_post_nms_top_n_train=after_training,
        rpn_post_nms_top_n_test=proposals,
        box_batch_size_per_image=regions,
        box_score_thresh=_LEAST_SCORE,
        box_detections_per_img=detections,
        **heads,
    )
    return Detector(network, trunk, backbone, fixed=_fixed(backbone, trunk) if frozen else (), background=True)


def _fixed(backbone: Backbone, trunk: Any) -> list[nn.Module]:
    return [backbone, trunk.res5.stage] if isinstance(trunk, C4Trunk) else [backbone]


def _fpn_heads(trunk: FeaturePyramid, categories: int, masks: bool, *, normed: bool) -> dict[str, nn.Module]:
    norm = nn.BatchNorm2d if normed else None
    pool = MultiScaleRoIAlign(trunk.pooled, output_size=7, sampling_ratio=2)
    heads: dict[str, nn.Module] = {"box_roi_pool": pool, "box_predictor": FastRCNNPredictor(_HIDDEN, categories + 1)}
    if normed:
        heads["box_head"] = FastRCNNConvFCHead((CHANNELS, 7, 7), [CHANNELS] * 4, [_HIDDEN], norm_layer=norm)
    else:
        heads["box_head"] = TwoMLPHead(CHANNELS * 7 * 7, _HIDDEN)
    if masks:
        heads["mask_roi_pool"] = MultiScaleRoIAlign(trunk.pooled, output_size=14, sampling_ratio=2)
        heads["mask_head"] = MaskRCNNHeads(CHANNELS, (CHANNELS,) * 4, 1, norm_layer=norm)
        heads["mask_predictor"] = MaskRCNNPredictor(CHANNELS, CHANNELS, categories + 1)
    return heads


def _c4_heads(trunk: C4Trunk, categories: int, masks: bool) -> dict[str, nn.Module]:
    pool = MultiScaleRoIAlign(trunk.pooled, output_size=14, sampling_ratio=2)
    channels = trunk.res5.channels
    heads: dict[str, nn.Module] = {
        "box_roi_pool": pool,
        "box_head": nn.Sequential(trunk.res5, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "box_predictor": FastRCNNPredictor(channels, categories + 1),
    }
    if masks:  # the same stage cuts out masks: one set of weights, as in Mask R-CNN's C4 variant
        heads["mask_roi_pool"], heads["mask_head"] = pool, trunk.res5
        heads["mask_predictor"] = MaskRCNNPredictor(channels, CHANNELS, categories + 1)
    return heads


def _fcos(backbone: Backbone, categories: int, frozen: bool, detections: int) -> Detector:
    trunk = FeaturePyramid(backbone, finest=8, extra="convolution")
    anchors = AnchorGenerator(tuple((stride,) for stride in trunk.strides), ((1.0,),) * len(trunk.strides))
    network = FCOS(
        trunk, categories, anchor_generator=anchors, score_thresh=_LEAST_SCORE, detections_per_img=detections
    )
    return Detector(network, trunk, backbone, fixed=[backbone] if frozen else (), background=False)


def _anchors(sizes: list[tuple[int, ...]]) -> AnchorGenerator:
    return AnchorGenerator(tuple(sizes), (_RATIOS,) * len(sizes))


class _Padding(nn.Module):
    """Takes the place of torchvision's transform: photos come in their final size, and are normalised and padded here.

    The padding is 0 after normalising, the mean colour, as in Detectron2 and torchvision.
    """

    def __init__(self, backbone: Backbone, divisor: int) -> None:
        super().__init__()
        self._normalise, self._divisor = backbone.normalise, divisor

    def forward(
        self, photos: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        sizes = [(photo.shape[1], photo.shape[2]) for photo in photos]
        height, width = (self._divisor * math.ceil(max(side) / self._divisor) for side in zip(*sizes, strict=True))
        padded = torch.zeros((len(photos), 3, height, width), device=photos[0].device)
        for place, photo, (h, w) in zip(padded, photos, sizes, strict=True):
            place[:, :h, :w] = self._normalise(photo[None])[0]
        return ImageList(padded, sizes), targets

    def postprocess(self, found: list[dict[str, Tensor]], *_: Any) -> list[dict[str, Tensor]]:
        """Boxes stay in the pixels of the resized photo, masks in their boxes: `inference` puts them into the photo."""
        return found
