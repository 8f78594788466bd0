"""The typed configuration: one tree for the YAML files, the command line, the Prefect form and the documentation.

Every default is the paper's (ORL, Xie et al. 2021, section 3.2, and its official code where the paper is silent) and
stands here alone. A field marked `runtime` changes how a step runs but not what it makes, so it is not part of the
version of an artifact.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stages.config.correspondence import Correspondence, Masks, Regions, Retrieval, RoiFeatures
from stages.config.dataset import Dataset
from stages.config.exchange import Exchange
from stages.config.pretraining import ImagePretraining, ObjectPretraining
from stages.config.recipes import Projector
from stages.config.section import Positive, Section, runtime

STAGES = ("image_pretraining", "retrieval", "correspondence", "object_pretraining", "evaluation")


class Generated(Section):
    """The data that this project makes: photos that come with its libraries, and labelled scenes cut from them."""

    photo_side: Positive = Field(640, description="longer side of the photos; pixels (COCO's size)")
    interiors: bool = Field(True, description="39 interiors of the extra `demo` besides 8 photos of the libraries")
    train_images: Positive = Field(400, description="labelled scenes to train a probe on")
    test_images: Positive = Field(200, description="labelled scenes to measure on")
    scene_side: Positive = Field(192, description="side of a scene; pixels")
    seed: int = Field(0, ge=0)


class Copies(Section):
    """Small JPEG copies of the photos, made once, that both trainings read instead of the photos themselves."""

    side: Positive | None = Field(None, description="shorter side of a copy in pixels; null: train on the photos")
    quality: int = Field(90, ge=1, le=95, description="JPEG quality")


class Evaluation(Section):
    train: Dataset | None = Field(None, description="labelled photos to train probes on; null: label-free figures only")
    test: Dataset | None = Field(None, description="labelled photos to measure on")
    resize: Positive = 256
    crop: Positive = 224
    object_size: Positive = Field(96, description="side to which a labelled object is resized; pixels")
    view_size: Positive = Field(224, description="side of the views that are to be found again; pixels")
    costs: tuple[float, ...] = Field(
        (1.0, 10.0, 100.0, *(0.5**k for k in range(4, 20))),
        description="costs of the SVM to choose from (OpenSelfSup's 19)",
    )
    max_images: Positive = Field(2000, description="photos used for the label-free figures")
    batch_size: Positive = runtime(256)

    @model_validator(mode="after")
    def _both(self) -> Evaluation:
        if (self.train is None) != (self.test is None):
            raise ValueError("`train` and `test` go together: give both labelled data sets or neither")
        return self


class Run(Section):
    seed: int = Field(0, ge=0)
    device: str = runtime("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: the GPU where there is one")
    workers: int = runtime(0, ge=0, description="processes for decoding and proposals; 0: one a core")
    processes: int = runtime(0, ge=0, description="processes that train together on this machine; 0: one a GPU")
    engine: Literal["local", "dask", "ray"] = runtime(
        "local",
        description="who works on the shards of catalog, regions, masks and roi_features: processes here, or a cluster",
    )
    address: str | None = runtime(None, description="of the cluster; null: one of our own on this machine")

    @model_validator(mode="after")
    def _cluster(self) -> Run:
        if self.address is not None and self.engine == "local":
            raise ValueError("`address` is of a cluster: say engine dask or ray, or leave it out")
        return self


class Config(Section):
    dataset: Dataset
    generated: Generated = Generated()
    copies: Copies = Copies()
    image_pretraining: ImagePretraining = ImagePretraining()
    retrieval: Retrieval = Retrieval()
    regions: Regions = Regions()
    masks: Masks = Masks()
    roi_features: RoiFeatures = RoiFeatures()
    correspondence: Correspondence = Correspondence()
    exchange: Exchange = Exchange()
    object_pretraining: ObjectPretraining = ObjectPretraining()
    evaluation: Evaluation = Evaluation()
    run: Run = Run()

    @model_validator(mode="after")
    def _filter_of_files(self) -> Config:
        if self.exchange.proposals is not None and self.regions.min_saliency is not None:
            raise ValueError(
                "regions.min_saliency looks at the photos, which exchange.proposals does without: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _one_network(self) -> Config:
        if self.object_pretraining.init == "image_pretraining":
            stages = self.image_pretraining.recipe, self.object_pretraining.recipe
            for name in Projector.model_fields:
                first, second = (getattr(recipe, name) for recipe in stages)
                if first != second:
                    raise ValueError(
                        f"object_pretraining.init 'image_pretraining' needs the same {name} in both stages, "
                        f"not {first} and {second}"
                    )
        return self

    @model_validator(mode="after")
    def _masks_fit(self) -> Config:
        stage, masks = self.object_pretraining, self.masks
        if "masks" in stage.needs and masks.may_overlap and getattr(stage.recipe, "pooling", None) == "hard":
            raise ValueError(
                f"object_pretraining.{stage.method}.pooling 'hard' gives each cell to one region, and masks.method "
                f"'{masks.method}' makes masks that may overlap: say pooling: soft or local, or take masks that divide "
                "a photo, such as felzenszwalb"
            )
        return self

    @model_validator(mode="after")
    def _mined_neighbors(self) -> Config:
        stage, mined = self.object_pretraining, self.retrieval.neighbors
        used = stage.orl.neighbors if "correspondence" in stage.needs else None
        if used is not None and used > mined:
            raise ValueError(
                f"object_pretraining.orl.neighbors {used} is more than retrieval.neighbors, {mined}: use at most "
                "these, or mine more"
            )
        return self
