"""Methods that compare whole views: BYOL, SimCLR, MoCo v2, DenseCL."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from stages.config.recipes.recipe import Augmentation, Colors, Interpolation, Norm, Optimizer, Recipe, Schedule
from stages.config.section import Duration, Positive, Range, Section, Share, runtime

# BYOL, appendix J and the configurations of its official code; "coco" is ORL's first stage.
_BYOL_PRESETS: dict[str, dict[str, Any]] = {
    "coco": {},
    **{
        f"imagenet_{epochs}": {
            "optimizer": "lars", "base_lr": base_lr, "weight_decay": weight_decay, "tau": tau,
            "warmup": "10 epochs", "schedule": "cosine_after_warmup", "interpolation": "bicubic",
        }
        for epochs, base_lr, weight_decay, tau in (
            (100, 0.45, 1e-6, 0.99), (300, 0.3, 1e-6, 0.99), (1000, 0.2, 1.5e-6, 0.996)
        )
    },
}  # fmt: skip


class SmallViews(Section):
    """More, smaller crops of the photo beside the two large ones: multi-crop, ORL's baseline of as many pixels."""

    small_views: int = Field(0, ge=0, description="how many; ORL compares with 4, as many as it has patches (table 5)")
    small_size: Positive = Field(96, description="their side; pixels")
    small_scale: Range = Field((0.05, 0.14), description="their area, as a share of the photo's (SwAV, appendix A)")


class Byol(SmallViews, Recipe):
    """BYOL. A preset changes the defaults below it; what is written beside it has the last word."""

    VIEWS: ClassVar[tuple[type[Section], ...]] = (Augmentation, SmallViews)

    preset: Literal["coco", "imagenet_100", "imagenet_300", "imagenet_1000"] = runtime(
        "coco", description="ORL's first stage, or BYOL's own settings for that many epochs at batch 4096"
    )
    predictor_hidden: Positive = 4096
    tau: Share = Field(0.99, description="EMA rate of the target at the start; rises to 1 along a cosine")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, fields: Any) -> Any:
        preset = _BYOL_PRESETS.get(fields.get("preset", "coco")) if isinstance(fields, dict) else None
        return fields if preset is None else preset | fields

    def shown(self) -> dict[str, Any]:
        return self.part(*self.VIEWS) if self.small_views else self.part(Augmentation)

    def objective(self) -> dict[str, Any]:
        small = {"small_views": self.small_views} if self.small_views else {}
        return super().objective() | small


class Simclr(Recipe):
    """SimCLR, section 2 and appendix B; projector and sum of both directions as in the official code."""

    optimizer: Optimizer = "lars"
    base_lr: float = Field(0.3, gt=0)
    weight_decay: float = Field(1e-6, ge=0)
    schedule: Schedule = "cosine_after_warmup"
    warmup: Duration = "10 epochs"
    projector_hidden: Positive = 2048
    projector_out: Positive = 128
    projector_norm: Norm = "all"
    photometry: Colors = "simclr"
    interpolation: Interpolation = "bicubic"
    temperature: float = Field(0.1, gt=0)


class Moco(Recipe):
    """MoCo v2 and the settings of its official code."""

    base_lr: float = Field(0.03, gt=0)
    warmup: Duration = "0 epochs"
    sync_batch_norm: Literal[False] = Field(False, description="would let the network cheat (MoCo, section 3.3)")
    projector_hidden: Positive = 2048
    projector_out: Positive = 128
    projector_norm: Norm = "none"
    min_crop: Share = 0.2
    photometry: Colors = "moco"
    temperature: float = Field(0.2, gt=0)
    queue_size: Positive = Field(65536, description="keys of former batches that serve as negatives")
    key_momentum: Share = Field(0.999, description="EMA rate of the key encoder")
    batch_norm_groups: Positive = Field(
        8, description="parts of the batch that batch norm sees apart, keys shuffled among them: the paper's 8 GPUs"
    )


class Densecl(Moco):
    """DenseCL with its settings for COCO; for ImageNet its base_lr is 0.03."""

    base_lr: float = Field(0.3, gt=0)
    dense_weight: Share = Field(0.5, description="lambda: share of the dense loss")
    dense_warmup_steps: int = Field(0, ge=0, description="steps at the start with the global loss alone")
