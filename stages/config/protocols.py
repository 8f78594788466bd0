"""The sections of the evaluation protocols on frozen features. Each default is the papers', with its source."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from stages.config.section import Positive, Section, Share, runtime

Costs = Literal["openselfsup", "vissl"] | tuple[float, ...]
Interpolation = Literal["area", "11_point"]
Depth = Literal["gap", "conv1", "layer1", "layer2", "layer3", "layer4"]


class ProtocolSection(Section):
    """What a protocol needs besides its own fields, by the names of the arguments of its step.

    `encoder`; `train` and `test`, the catalogs with their folders; `features_train` and `features_test`; `reference`,
    the features of the encoder before; `maps_train` and `maps_test`, classes of pixels; `regions`, boxes of the test
    photos; `seed`, `device`, `workers`.
    """

    needs: ClassVar[tuple[str, ...]]
    instead: ClassVar[tuple[str, ...]] = ()  # arguments that may stand in place of an encoder

    def arguments(self) -> dict[str, Any]:
        """The fields as keyword arguments of the step."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def depths(self) -> tuple[str, ...]:
        """Depths of the features that it reads."""
        return ()


class LinearSvm(ProtocolSection):
    """Goyal et al. 2019 (arXiv:1905.01235), as in the official code of ORL."""

    needs: ClassVar = ("features_train", "features_test", "train", "test", "seed", "workers")
    at: tuple[Depth, ...] = Field(
        ("conv1", "layer1", "layer2", "layer3", "layer4"), description="depths; the best one is reported, and each"
    )
    costs: Costs = Field("openselfsup", description="openselfsup: 19 (ORL's), vissl: 11, or a list")
    difficult: Literal["reference", "corrected"] = Field(
        "reference", description="photos with only difficult objects of a class: negative in training, or left out"
    )
    ap: Interpolation = Field("area", description="area under the curve (ORL, VISSL), or 11 points (BYOL)")

    def arguments(self) -> dict[str, Any]:
        fields = super().arguments()
        return {"depths": fields.pop("at"), **fields}

    def depths(self) -> tuple[str, ...]:
        return self.at


class LowShotSvm(ProtocolSection):
    """Goyal et al. 2019, section 6.2: k photos a class, five draws."""

    needs: ClassVar = ("features_train", "features_test", "train", "test", "seed", "workers")
    depth: Depth = Field("layer4", description="depth of the features; the official code takes layer4, pooled to 2 x 2")
    shots: tuple[Positive, ...] = Field((1, 2, 4, 8, 16, 32, 64, 96), description="each k")
    costs: Costs = "openselfsup"
    ap: Interpolation = "area"

    def depths(self) -> tuple[str, ...]:
        return (self.depth,)


class Knn(ProtocolSection):
    """Weighted nearest neighbours (Wu et al. 2018, arXiv:1805.01978, section 3.4)."""

    needs: ClassVar = ("features_train", "features_test", "train", "test", "seed", "device")
    depth: Depth = "gap"
    neighbors: tuple[Positive, ...] = Field((20, 200), description="each k: DINO's and Wu et al.'s")
    temperature: float = Field(0.07, gt=0)
    ap: Interpolation = "area"

    def depths(self) -> tuple[str, ...]:
        return (self.depth,)


class Discovery(ProtocolSection):
    """Objects among clusters of dense features (Hénaff et al. 2022, Odin): ABO, object recovery."""

    needs: ClassVar = ("encoder", "test", "seed", "device", "workers")
    instead: ClassVar = ("masks", "regions")
    clusters: tuple[Positive, ...] = Field((2, 4, 8, 16, 32), description="each a segmentation")
    cells: Positive = Field(32, description="of the feature map along the longer side of a photo")
    depth: str | None = Field(None, description="name of the feature map; null: the last")
    output_stride: Literal[16, 32] = 32
    distance: Literal["cosine", "euclidean"] = "cosine"


class PairPurity(ProtocolSection):
    """Share of mined pairs on one class: stages 2 and 3 for a bare encoder (Xie et al. 2021, section 3.2)."""

    needs: ClassVar = ("encoder", "features_test", "regions", "test", "seed", "device", "workers")
    neighbors: Positive = 10
    fraction: Share = 0.1
    fraction_of: Literal["query_boxes", "matrix"] = "query_boxes"
    size: Positive = Field(224, description="side to which a box is squeezed; pixels (ORL, section 3.2)")
    batch_size: Positive = runtime(256)

    def depths(self) -> tuple[str, ...]:
        return ("gap",)


class RetrievalMap(ProtocolSection):
    """Mean average precision of rankings of photos, and of objects, by similarity."""

    needs: ClassVar = ("encoder", "features_test", "test", "seed", "device", "workers")
    depth: Depth = "gap"
    object_size: Positive = Field(224, description="side to which an object is squeezed; pixels")
    queries: Positive = 5000
    batch_size: Positive = runtime(256)

    def depths(self) -> tuple[str, ...]:
        return (self.depth,)


class LabelFree(ProtocolSection):
    """Alignment and uniformity (Wang & Isola 2020), effective rank, neighbours shared with another encoder."""

    needs: ClassVar = ("encoder", "features_test", "reference", "test", "seed", "device", "workers")
    view_size: Positive = 224
    max_images: Positive = 2000
    neighbors: Positive = 10
    batch_size: Positive = runtime(256)

    def depths(self) -> tuple[str, ...]:
        return ("gap",)
