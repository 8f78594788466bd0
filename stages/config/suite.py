"""A suite: labelled data and the protocols that encoders are evaluated by on it. `configs/evaluation/` holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from stages.config.correspondence import Masks, Regions
from stages.config.dataset import Dataset
from stages.config.files import CONFIG_FOLDERS
from stages.config.protocols import (
    Discovery,
    Knn,
    LabelFree,
    LinearSvm,
    LowShotSvm,
    PairPurity,
    ProtocolSection,
    RetrievalMap,
)
from stages.config.reading import ConfigError, find, merged, names, override, read_tree, validated
from stages.config.section import Place, Positive, Section, runtime
from stages.config.tiny_suite import shrunk
from stages.config.trained_protocols import Depths, Detection, FineTuning, LinearProbe, Segmentation
from stages.config.tree import Generated, Run

SUITE_FOLDERS = tuple(folder / "evaluation" for folder in CONFIG_FOLDERS)


class Features(Section):
    """Frozen features of whole photos, made once for all protocols that read them."""

    picture: Literal["squeeze", "crop"] = Field(
        "crop",
        description="squeeze: the whole photo into a square, as OpenSelfSup and ORL do for VOC07; crop: its middle",
    )
    resize: Positive = Field(256, description="shorter side before; pixels")
    crop: Positive = Field(224, description="side of the picture; pixels")
    batch_size: Positive = runtime(64)


class ClassMaps(Section):
    """The class of each pixel, for segmentation."""

    source: Literal["objects", "pascal", "cityscapes", "ade20k", "coco_stuff"] = Field(
        "objects", description="objects: from the masks of a data set in COCO format; the others: label maps"
    )
    train_labels: Place | None = runtime(None, description="folder of the label maps of the training photos")
    test_labels: Place | None = runtime(None, description="folder of the label maps of the test photos")


class ActivationMaps(Section):
    """Where each encoder looks, side by side on a few test photos (ORL, figure 4)."""

    photos: tuple[str, ...] = Field((), description="names of test photos; none: `number` of them, evenly spread")
    number: Positive = 8
    method: Literal["contribution", "energy", "attention"] = Field(
        "contribution", description="contribution: of each place to the pooled embedding; attention: of class tokens"
    )
    size: Positive = Field(448, description="side of the square that the network sees; pixels")


class Suite(Section):
    """Fields of `dataset` in a file go to both `train` and `test`, which say what differs."""

    title: str = Field(description="a few words above the report")
    source: str | None = Field(None, description="which table of which paper it repeats")
    published: str | None = Field(
        None, description="data set under which figures of papers are looked up, such as voc07"
    )
    layout: str | None = Field(None, description="how the data set is laid out, and where a user gets it; for messages")
    train: Dataset | None = Field(None, description="labelled photos to learn from; for protocols that learn")
    test: Dataset = Field(description="labelled photos to measure on")
    generated: Generated = Generated()
    features: Features = Features()
    class_maps: ClassMaps = ClassMaps()
    masks: Masks | None = Field(
        None, description="segmentations of stage 3 that discovery measures beside the encoders"
    )
    regions: Regions | None = Field(None, description="boxes of stage 3: for discovery, and for correspondence to pair")
    linear_svm: LinearSvm | None = None
    low_shot_svm: LowShotSvm | None = None
    knn: Knn | None = None
    linear_probe: LinearProbe | None = None
    fine_tuning: FineTuning | None = None
    detection: Detection | None = None
    segmentation: Segmentation | None = None
    depth: Depths | None = None
    discovery: Discovery | None = None
    pair_purity: PairPurity | None = None
    retrieval_map: RetrievalMap | None = None
    label_free: LabelFree | None = None
    activation_maps: ActivationMaps | None = None
    run: Run = Run()

    @model_validator(mode="before")
    @classmethod
    def _shared(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or "dataset" not in tree:
            return tree
        tree = dict(tree)
        common = tree.pop("dataset")
        for part in ("train", "test"):
            if isinstance(tree.get(part), dict):
                tree[part] = merged(common, tree[part])
        return tree

    @property
    def protocols(self) -> dict[str, ProtocolSection]:
        """Those that the suite has, in the order of the report."""
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: section for name, section in sections.items() if isinstance(section, ProtocolSection)}

    @model_validator(mode="after")
    def _complete(self) -> Suite:
        for name, section in self.protocols.items():
            if "train" in section.needs and self.train is None:
                raise ValueError(f"{name} learns from labelled photos: give `train`, or leave {name} out")
            if "regions" in section.needs and self.regions is None:
                raise ValueError(f"{name} pairs boxes: give `regions`, or leave {name} out")
        return self

    def chosen(self, protocols: Iterable[str] | None) -> dict[str, ProtocolSection]:
        """The protocols named; all for None.

        Raises:
            ConfigError: the suite has no such protocol.
        """
        if protocols is None:
            return self.protocols
        unknown = [name for name in protocols if name not in self.protocols]
        if unknown:
            raise ConfigError(
                f"this suite has no protocol {', '.join(unknown)}. It has: {', '.join(self.protocols)}; "
                f"`--set {unknown[0]}={{}}` adds one with its defaults."
            )
        return {name: self.protocols[name] for name in protocols}


def load_suite(name: str, overrides: Iterable[str] = (), *, tiny: bool = False) -> Suite:
    """The suite `name` (a file, or the stem of one in configs/evaluation/) with `section.field=value` overrides.

    `tiny` shrinks it to a rehearsal on generated scenes first, so that an override has the last word.

    Raises:
        ConfigError: there is no such file, or it can't be used.
    """
    tree: Mapping[str, Any] = read_tree(find(name, SUITE_FOLDERS, "suite"))
    tree = shrunk(dict(tree)) if tiny else dict(tree)
    for change in overrides:
        override(tree, change)
    return validated(Suite, tree, name)


def suite_names() -> list[str]:
    return names(SUITE_FOLDERS)
