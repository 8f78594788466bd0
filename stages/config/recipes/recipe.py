"""What every recipe has: an optimizer, a projector and colours."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from stages.config.section import Duration, Positive, Section, Share, runtime_fields

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

    # The classes of a recipe whose fields say what the network is shown.
    VIEWS: ClassVar[tuple[type[Section], ...]] = (Augmentation,)

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps whose artifacts its views are drawn from."""
        return ()

    def part(self, *kinds: type[Section]) -> dict[str, Any]:
        """The fields of some of the classes that a recipe is made of."""
        return self.model_dump(mode="json", include={name for kind in kinds for name in kind.model_fields})

    def shown(self) -> dict[str, Any]:
        """What the network is shown. Fields that nothing reads beside the others are not there."""
        return self.part(*self.VIEWS)

    def objective(self) -> dict[str, Any]:
        """The fields that are the method's own."""
        kinds: tuple[type[Section], ...] = (Optimization, Projector, *self.VIEWS)
        others = {name for kind in kinds for name in kind.model_fields}
        return self.model_dump(mode="json", exclude=others | runtime_fields(type(self)))
