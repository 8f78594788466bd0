"""The sections of the evaluation protocols that train a network. Each default is the papers', with its source."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from stages.config.protocols import Depth, ProtocolSection
from stages.config.section import Duration, Place, Positive, Range, Share, runtime


class Classifying(ProtocolSection):
    """How a classifier learns, shared by probes and fine-tuning."""

    needs: ClassVar = ("encoder", "train", "test", "seed", "device", "workers")
    epochs: Duration
    schedule: Literal["drops", "cosine"] = "drops"
    drops: tuple[Duration, ...]
    drop_factor: float = Field(0.1, gt=0, le=1)
    batch_size: Positive = 256
    base_lr: float = Field(gt=0, description="learning rate at batch 256")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0)
    augmentation: Literal["plain", "color"] = Field(
        "plain", description="color: jitter and lighting too, as for ImageNet"
    )
    min_crop: float = Field(0.08, gt=0, le=1, description="smallest random crop, a share of the photo's area")
    resize: Positive = 256
    crop: Positive = 224
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    log_every: Positive = runtime(50)
    checkpoint_minutes: float = runtime(10.0, gt=0)

    def arguments(self) -> dict[str, Any]:
        names = set(Classifying.model_fields) - {"augmentation", "min_crop", "resize", "crop"}
        own = {name: getattr(self, name) for name in type(self).model_fields if name not in names}
        return own | {"training": {name: getattr(self, name) for name in sorted(names)}}


class LinearProbe(Classifying):
    """Linear classifiers on frozen features at five depths at once, OpenSelfSup's setting for ImageNet."""

    at: tuple[Depth, ...] = Field(("conv1", "layer1", "layer2", "layer3", "layer4"), description="one classifier each")
    batch_norm: bool = Field(True, description="of the features, without weights; not in the setting `r50_last`")
    optimizer: Literal["sgd", "lars"] = "sgd"
    epochs: Duration = "28 epochs"
    drops: tuple[Duration, ...] = ("8 epochs", "16 epochs", "24 epochs")
    base_lr: float = Field(0.01, gt=0)
    nesterov: bool = True

    def arguments(self) -> dict[str, Any]:
        fields = super().arguments()
        return {"depths": fields.pop("at"), **fields}


class FineTuning(Classifying):
    """All weights learn, on a share of the labels: semi-supervised learning as in OpenSelfSup and ORL."""

    init: Literal["encoder", "random"] = Field(
        "encoder", description="random: the same network from scratch, the supervised reference"
    )
    labels: float = Field(1.0, gt=0, le=1, description="share of the labels: 0.01 and 0.1 in the papers")
    draw: int = Field(0, ge=0, description="number of the subset")
    head_factor: float = Field(100.0, gt=0, description="learning rate of the classifier, times the backbone's")
    epochs: Duration = "20 epochs"
    drops: tuple[Duration, ...] = ("12 epochs", "16 epochs")
    drop_factor: float = Field(0.2, gt=0, le=1)
    base_lr: float = Field(0.01, gt=0)


class Segmentation(ProtocolSection):
    """FCN as in MoCo and BYOL (Grill et al. 2020, appendix D.4): two 3 x 3 convolutions, dilated by 6, at stride 16."""

    needs: ClassVar = (
        "encoder", "train", "test", "maps_train", "maps_test", "seed", "device", "workers"
    )  # fmt: skip
    output_stride: Literal[16, 32] = 16
    crop: Positive = 513
    scales: Range = (0.5, 2.0)
    short_side: Positive | None = Field(None, description="shorter side of a photo at scale 1; null: as it is")
    inference: Literal["central", "whole"] = Field("whole", description="central: a square of `crop` pixels (BYOL)")
    training: Duration = "30000 steps"
    batch_size: Positive = 16
    lr: float = Field(0.003, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    checkpoint_minutes: float = runtime(10.0, gt=0)


class Depths(ProtocolSection):
    """Depth on NYU v2 (Grill et al. 2020, appendix D.6): four up-projection blocks and the reverse Huber loss."""

    needs: ClassVar = ("encoder", "train", "test", "seed", "device", "workers")
    train_depth: Place = runtime(..., description="folder of depth maps of the training photos")
    test_depth: Place = runtime(..., description="folder of depth maps of the test photos")
    depth_scale: float = Field(1000.0, gt=0, description="units of a 16-bit depth map in a metre")
    short_side: Positive = 240
    crop: tuple[Positive, Positive] = Field((304, 228), description="width and height")
    training: Duration = "7500 steps"
    batch_size: Positive = 256
    lr: float = Field(0.16, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    drops: tuple[Share, ...] = Field(
        (0.35, 0.7),
        description="shares of the training where the rate falls to a tenth (Laina et al. 2016, section 4.1)",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    checkpoint_minutes: float = runtime(10.0, gt=0)


class Detection(ProtocolSection):
    """Boxes and masks. Defaults: ORL's Mask R-CNN on COCO, schedule 1x (section 4.2, with InfoMin's configuration)."""

    needs: ClassVar = ("encoder", "train", "test", "seed", "device", "workers")
    architecture: Literal["fpn", "fpn_2fc", "c4", "fcos"] = Field(
        "fpn", description="fpn: box head of 4 convolutions, norms in all heads; fpn_2fc: MoCo's; c4: MoCo's on VOC"
    )
    masks: bool = Field(True, description="Mask R-CNN, else Faster R-CNN or FCOS")
    frozen: bool = Field(False, description="the backbone keeps its weights (DetCon, section 4.2)")
    metric: Literal["coco", "lvis", "voc_11_point", "voc_area"] = "coco"
    annotations: Place | None = runtime(None, description="lvis: the JSON file of the test photos")
    short_sides: tuple[Positive, ...] = Field(
        (640, 672, 704, 736, 768, 800), description="of training photos, one drawn each time; pixels"
    )
    longest: Positive = Field(1333, description="longer side of a photo at most; pixels")
    test_short_side: Positive = 800
    training: Duration = "90000 steps"
    drops: tuple[Share, ...] = Field(
        (2 / 3, 8 / 9), description="shares of the training where the rate falls to a tenth"
    )
    warmup: Duration = "1000 steps"
    batch_size: Positive = 16
    lr: float = Field(0.02, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    regions: Positive = Field(512, description="that the heads learn from in a photo")
    proposals: Positive = Field(1000, description="that the heads look at in a photo")
    detections: Positive = Field(100, description="in a photo, at most; 300 for LVIS")
    precise_batches: int = Field(200, ge=0, description="that statistics of batch norms are measured on after training")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    checkpoint_minutes: float = runtime(10.0, gt=0)
