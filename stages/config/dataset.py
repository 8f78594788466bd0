"""Section `dataset`: where photos come from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from stages.config.section import Place, Positive, Section, Share, runtime

Format = Literal[
    "folder", "class_folders", "coco", "voc", "openimages", "list_file", "webdataset", "joined", "demo_photos", "scenes"
]

# What each format can't do without.
_NEEDS = {
    "folder": ["root"],
    "class_folders": ["root"],
    "coco": ["root", "annotations"],
    "voc": ["root", "split"],
    "openimages": ["root", "annotations"],
    "list_file": ["root", "list_file"],
    "webdataset": ["root"],
    "joined": ["parts"],
    "scenes": ["split"],
    "demo_photos": [],
}
# Fields that only the whole of joined data sets has.
_OF_THE_WHOLE = ("min_side", "max_rejected", "scaled_decode")


class Dataset(Section):
    """Where photos come from. Labels are read where the format has them; pretraining never looks at them."""

    format: Format = Field(
        "folder", description="demo_photos and scenes are made by this project; the others lie below `root`"
    )
    root: Place | None = runtime(
        None, description="the folder that holds the photos (voc: the devkit or a year in it; webdataset: the shards)"
    )
    annotations: Place | None = runtime(
        None, description="coco: instances_*.json (or LVIS's); openimages: CSV of boxes"
    )
    split: str | None = Field(
        None,
        description="voc: a list in ImageSets/Main (trainval); scenes: train or test; webdataset: takes the shards "
        "whose path below root fits, such as train-*.tar",
    )
    list_file: Place | None = runtime(None, description="list_file: one path below root a line")
    class_names: Place | None = runtime(None, description="openimages: CSV of the classes' names; null: their codes")
    min_classes: Positive = Field(
        1, description="openimages: only photos with objects of so many classes; 2 in object-aware cropping, section 2"
    )
    min_images_per_class: Positive = Field(
        1, description="openimages: only classes in so many of these photos; 900 in object-aware cropping, section 2"
    )
    parts: tuple[Dataset, ...] = Field((), description="joined: the data sets, as sections like this one")
    min_side: Positive = Field(32, description="photos with a shorter side are rejected; pixels")
    max_rejected: Share = runtime(0.1, description="stop when a larger share of the files can't be used")
    scaled_decode: bool = Field(
        False, description="let libjpeg decode at 1/2, 1/4 or 1/8 size where crops allow it: faster, not pixel-exact"
    )

    @model_validator(mode="after")
    def _needs(self) -> Dataset:
        for name in _NEEDS[self.format]:
            if getattr(self, name) in (None, ()):
                raise ValueError(f"format '{self.format}' needs `{name}`")
        if self.format == "scenes" and self.split not in ("train", "test"):
            raise ValueError(f"split '{self.split}': scenes have the splits train and test")
        if self.format == "joined" and self.root is not None:
            raise ValueError("format 'joined' has no `root` of its own: each of `parts` has one")
        if self.format != "joined" and self.parts:
            raise ValueError(f"format '{self.format}' has no `parts`: write format: joined, or leave them out")
        for part in self.parts:
            if part.format in ("joined", "scenes", "demo_photos"):
                raise ValueError(f"a part can't have the format '{part.format}': parts are folders of photos")
            for name in _OF_THE_WHOLE:
                if getattr(part, name) != type(part).model_fields[name].default:
                    raise ValueError(f"`{name}` belongs to the joined data set, not to one of its parts")
        return self

    def source(self) -> dict[str, Any]:
        """What `stages.data.formats.Source` is made from, for a data set that lies on the disk."""
        if self.format == "joined":
            parts = [part.source() for part in self.parts]
            return {"format": "joined", "root": [part.pop("root") for part in parts], "parts": parts}
        names = ("format", "root", "annotations", "split", "list_file", "class_names", "min_classes",
                 "min_images_per_class")  # fmt: skip
        return {name: getattr(self, name) for name in names}
