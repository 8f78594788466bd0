"""The sections of the two trainings, stages 1 and 4."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from stages.config.dataset import Dataset
from stages.config.recipes import Byol, Crops, Densecl, DetconB, DetconS, Moco, Orl, Recipe, Simclr
from stages.config.section import Duration, Positive, Section, Share, runtime


class Probe(Section):
    """A look at the encoder while it trains: weighted kNN between labelled objects, which training never sees."""

    data: Dataset
    every: Duration = "10 epochs"
    size: Positive = Field(96, description="side to which an object is resized; pixels")
    max_objects: Positive = 2000
    neighbors: Positive = 20


class Training(Section):
    """What all methods of both pretraining stages share."""

    epochs: Duration = Field("800 epochs", description="length of the training, in epochs, steps or images")
    batch_size: Positive = Field(512, description="photos in a step, of all processes together")
    accumulate: Positive = Field(1, description="parts of a step's batch that pass the network one after the other")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU and on CPUs with matrix units for it, else fp32"
    )
    compile: bool = runtime(False, description="torch.compile: a minute or more at the start, faster steps on a GPU")
    renderer: Literal["cpu", "device"] = Field(
        "cpu", description="where views are drawn: by the data workers, or in batches on the training device"
    )
    log_every: Positive = Field(50, description="steps between two lines of metrics.jsonl")
    checkpoint_minutes: float = runtime(1.0, gt=0, description="time between two checkpoints")
    keep_every: Duration | None = Field(
        None, description="keep an encoder and a checkpoint each time so much is done; null: only the last"
    )
    max_unreadable: Share = runtime(0.01, description="stop when a larger share of the photos has become unreadable")
    probe: Probe | None = runtime(None)


class ImagePretraining(Training):
    method: Literal["byol", "simclr", "moco", "densecl"] = "byol"
    backbone: str = Field(
        "resnet50", description="any network of timm with a feature map, resnet50w2, resnet200w2, or conv4; both stages"
    )
    size: Positive = Field(224, description="side of a view; pixels")
    byol: Byol = Byol()
    simclr: Simclr = Simclr()
    moco: Moco = Moco()
    densecl: Densecl = Densecl()

    @property
    def recipe(self) -> Recipe:
        """The section of the chosen method. The others may hold settings too; nothing reads them."""
        return getattr(self, self.method)

    def shown(self) -> dict[str, Any]:
        """What the network is shown."""
        return self.recipe.shown() | {"size": self.size}

    def objective(self) -> dict[str, Any]:
        """The arguments of the method."""
        return self.recipe.objective()


class ObjectPretraining(Training):
    method: Literal["orl", "detcon_s", "detcon_b", "byol", "simclr", "moco", "densecl"] = Field(
        "orl", description="orl, detcon_s and detcon_b look at objects by themselves, the others through `crops`"
    )
    init: Literal["scratch", "image_pretraining"] = Field(
        "scratch", description="scratch as in the official code, or the weights of stage 1"
    )
    size: Positive = Field(224, description="side of a view of all methods but orl, which has two of its own; pixels")
    crops: Crops = Crops()
    orl: Orl = Orl()
    detcon_s: DetconS = DetconS()
    detcon_b: DetconB = DetconB()
    byol: Byol = Byol()
    simclr: Simclr = Simclr()
    moco: Moco = Moco()
    densecl: Densecl = Densecl()

    @property
    def recipe(self) -> Recipe:
        """The section of the chosen method."""
        return getattr(self, self.method)

    @property
    def crops_boxes(self) -> bool:
        """Whether the method is an image-level one that looks at crops of boxes."""
        return self.method in ImagePretraining.model_fields and self.crops.mode != "scene_scene"

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps whose artifacts the views are drawn from."""
        return ("regions",) if self.crops_boxes else self.recipe.needs

    def shown(self) -> dict[str, Any]:
        """What the network is shown."""
        views = self.recipe.shown()
        if self.method != "orl":
            views["size"] = self.size
        return views | {"crops": self.crops.shown()} if self.crops_boxes else views

    def objective(self) -> dict[str, Any]:
        """The arguments of the method."""
        objective = self.recipe.objective()
        if not self.crops_boxes:
            return objective
        # Queries and keys differ in kind, and the paper lets either be either (section 3, pseudo-code).
        roles = {"swap_roles": True} if self.method in ("moco", "densecl") else {}
        return objective | {"two_heads": self.crops.two_heads} | roles

    @model_validator(mode="after")
    def _small_views(self) -> ObjectPretraining:
        if self.method == "byol" and self.byol.small_views and self.crops_boxes:
            raise ValueError(
                f"byol.small_views {self.byol.small_views} are crops of the whole photo, and crops.mode "
                f"'{self.crops.mode}' shows boxes: say crops.mode: scene_scene, or small_views: 0"
            )
        return self
