"""Methods that compare objects: ORL and DetCon; and the crops that show objects to image-level methods."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from stages.config.recipes.image_level import Simclr
from stages.config.recipes.recipe import Augmentation, Interpolation, Optimizer, Recipe, Schedule
from stages.config.section import Duration, Positive, Range, Section, Share


class OrlViews(Section):
    global_size: Positive = Field(224, description="side of the two views of the whole photo; pixels")
    patch_size: Positive = Field(96, description="side of the four RoI views; pixels")
    jitter: Literal["one", "both"] = Field(
        "one", description="intra-RoI boxes that are jittered: one (official code) or both (paper)"
    )
    neighbors: Positive | None = Field(
        None, description="K, if fewer than were mined: only the nearest so many (table 5); null: all"
    )
    pairs: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the pairs mined with a neighbour that are used, the most similar ones (table 5)"
    )


# Fields that came when pretrained encoders were there. They are left out at these values, which change nothing, so that
# those encoders keep their versions.
_ALL_THAT_WAS_MINED = {"neighbors": None, "pairs": 1.0}


class Orl(OrlViews, Recipe):
    """ORL's last stage (ORL, sections 3.2 and 3.3)."""

    VIEWS: ClassVar[tuple[type[Section], ...]] = (Augmentation, OrlViews)

    predictor_hidden: Positive = 4096
    tau: Share = Field(0.99, description="EMA rate of the target at the start; rises to 1 along a cosine")
    weight_image: float = Field(1.0, ge=0)
    weight_intra: float = Field(1.0, ge=0)
    weight_inter: float = Field(1.0, ge=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps whose artifacts its views are drawn from. What has no weight is not drawn."""
        if self.weight_inter > 0:
            return "correspondence", "regions"
        return ("regions",) if self.weight_intra > 0 else ()

    def shown(self) -> dict[str, Any]:
        fields = super().shown()
        return {name: value for name, value in fields.items() if value != _ALL_THAT_WAS_MINED.get(name, ...)}

    def objective(self) -> dict[str, Any]:
        fields = super().objective()
        weights = {part: fields.pop(f"weight_{part}") for part in ("image", "intra", "inter")}
        return fields | {"weights": weights}


class DetconViews(Section):
    regions: Positive = Field(16, description="regions drawn of a photo, with replacement, for each view (section 3.1)")
    pooling: Literal["hard", "soft", "local"] = Field(
        "hard",
        description="a cell of the feature map belongs to the region that fills most of it (official code); soft: to "
        "each by its share (the paper's words), as masks that overlap need it; local: each draw is the feature of one "
        "place within the region (section 4.4, for views of 384 or 512 pixels)",
    )


class DetconObjective(Section):
    """DetCon's objective (Hénaff et al. 2021, section 3.1), and the variants of its table 5."""

    temperature: float = Field(0.1, gt=0)
    reading: Literal["code", "paper"] = Field(
        "code", description="of the loss: many positives in one softmax, as released; paper: a softmax each, equation 3"
    )
    negatives: Literal["all", "process"] = Field(
        "all", description="regions of the whole batch, or of the part that one process has (table 5, row a)"
    )
    views: Literal["two", "one"] = Field("two", description="contrast across views, or within each (table 5, row b)")


class _Detcon(DetconViews, DetconObjective):
    """What both variants have."""

    VIEWS: ClassVar[tuple[type[Section], ...]] = (Augmentation, DetconViews)

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps whose artifacts its views are drawn from."""
        return ("masks",)

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.views == "one" and self.regions % 2:
            raise ValueError(
                f"views 'one' contrasts two halves of a view's regions with each other, and {self.regions} have none: "
                "give an even number of regions, such as 16"
            )
        return self


class DetconS(_Detcon, Simclr):
    """DetCon_S: SimCLR's optimizer, colours and heads (section 3.1)."""


class DetconB(_Detcon, Recipe):
    """DetCon_B: the settings of its official code, which are BYOL's for 1000 epochs at batch 4096, for any length."""

    optimizer: Optimizer = "lars"
    weight_decay: float = Field(1.5e-6, ge=0)
    schedule: Schedule = Field("cosine_after_warmup", description="for COCO the paper has piecewise (A.3)")
    warmup: Duration = Field("10 epochs", description="a hundredth of its 1000 epochs")
    interpolation: Interpolation = "bicubic"
    predictor_hidden: Positive = 4096
    tau: Share = Field(0.996, description="EMA rate of the target at the start; rises to 1 along a cosine")


class Crops(Section):
    """Object-aware cropping (Mishra et al. 2022, section 3), for any image-level method."""

    mode: Literal["scene_scene", "obj_scene", "obj_obj_dilate", "obj_obj_shift"] = Field(
        "obj_obj_dilate",
        description="view 1 shows one of the photo's boxes; view 2 the photo, the dilated or the shifted box. "
        "scene_scene: both show the photo, as in stage 1",
    )
    dilation: Share = Field(
        0.1, description="obj_obj_dilate: share of the photo's sides; 0.1 for COCO, 0.2 for Open Images (appendix G)"
    )
    shift: Range = Field((80.0, 100.0), description="obj_obj_shift: how far the box moves; pixels")
    proposals: Positive = Field(10, description="how many of the photo's first boxes are drawn from")
    min_crop: Share | None = Field(
        None,
        description="smallest crop of a box, as a share of its area; null: as large as the smallest crop of the photo, "
        "for a box of mean area (section 3)",
    )
    min_box: Positive = Field(224, description="smaller boxes are widened around their centre; pixels (appendix G)")
    two_heads: bool = Field(True, description="a projector for each of the views; scene_scene has one (section 3)")

    def shown(self) -> dict[str, Any] | None:
        """The fields that the mode reads, None for scene_scene."""
        unread = {"obj_obj_dilate": {"shift"}, "obj_obj_shift": {"dilation"}}.get(self.mode, {"shift", "dilation"})
        return None if self.mode == "scene_scene" else self.model_dump(mode="json", exclude={"two_heads", *unread})
