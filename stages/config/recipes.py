"""The recipes: each method with all the values of its paper.

Which method is trained is one field (`image_pretraining.method`); what its paper says about the optimizer, the views
and the heads stands in a section of its own, so that changing the method changes all of it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from stages.config.section import Duration, Positive, Section, Share, runtime, runtime_fields

Optimizer = Literal["sgd", "lars", "adamw"]
Schedule = Literal["cosine", "cosine_after_warmup", "piecewise"]
Norm = Literal["hidden", "all", "none"]
Colors = Literal["byol", "simclr", "moco"]
Interpolation = Literal["bilinear", "bicubic"]


class Optimization(Section):
    """How weights are changed. Each method's section has its paper's values."""

    optimizer: Optimizer = "sgd"
    base_lr: float = Field(0.2, gt=0, description="learning rate at batch 256; scaled linearly with the batch")
    momentum: Share = Field(0.9, description="of the optimizer; beta 1 of adamw")
    weight_decay: float = Field(1e-4, ge=0, description="sgd: on all parameters; lars, adamw: not on biases and norms")
    schedule: Schedule = Field(
        "cosine", description="cosine: the warm-up does not shift it (ORL); piecewise: / 10 at 96 % and 98 % (DetCon)"
    )
    warmup: Duration = Field("4 epochs", description="linear warm-up of the learning rate")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradients together; null: not clipped")
    sync_batch_norm: bool = Field(True, description="batch norm over the batches of all processes")


class Projector(Section):
    projector_hidden: Positive = 4096
    projector_out: Positive = 256
    projector_layers: int = Field(2, ge=1, le=4)
    projector_norm: Norm = Field(
        "hidden", description="batch norm after the hidden layers (BYOL), after all (SimCLR), nowhere (MoCo)"
    )


class Augmentation(Section):
    min_crop: Share = Field(0.08, description="smallest crop, as a share of the photo's area")
    photometry: Colors = Field("byol", description="whose colour operations")
    interpolation: Interpolation = Field("bilinear", description="of crops; both with antialiasing")


class Recipe(Optimization, Projector, Augmentation):
    """A method with all the values of its paper. Its own fields are the arguments of its objective."""

    AUGMENTATION: ClassVar[type[Augmentation]] = Augmentation

    def part(self, kind: type[Section]) -> dict[str, Any]:
        """The fields of one of the classes that a recipe is made of."""
        return self.model_dump(mode="json", include=set(kind.model_fields))

    def objective(self) -> dict[str, Any]:
        """The fields that are the method's own."""
        others = {*Optimization.model_fields, *Projector.model_fields, *self.AUGMENTATION.model_fields}
        return self.model_dump(mode="json", exclude=others | runtime_fields(type(self)))


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


class Byol(Recipe):
    """BYOL. A preset changes the defaults below it; what is written beside it has the last word."""

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


class OrlAugmentation(Augmentation):
    global_size: Positive = Field(224, description="side of the two views of the whole photo; pixels")
    patch_size: Positive = Field(96, description="side of the four RoI views; pixels")
    jitter: Literal["one", "both"] = Field(
        "one", description="intra-RoI boxes that are jittered: one (official code) or both (paper)"
    )


class Orl(OrlAugmentation, Recipe):
    """ORL's last stage (ORL, sections 3.2 and 3.3)."""

    AUGMENTATION: ClassVar[type[Augmentation]] = OrlAugmentation

    predictor_hidden: Positive = 4096
    tau: Share = Field(0.99, description="EMA rate of the target at the start; rises to 1 along a cosine")
    weight_image: float = Field(1.0, ge=0)
    weight_intra: float = Field(1.0, ge=0)
    weight_inter: float = Field(1.0, ge=0)

    def objective(self) -> dict[str, Any]:
        fields = super().objective()
        weights = {part: fields.pop(f"weight_{part}") for part in ("image", "intra", "inter")}
        return fields | {"weights": weights}
