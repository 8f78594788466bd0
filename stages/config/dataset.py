"""Section `dataset`: where photos come from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stages.config.section import Place, Positive, Section, Share, runtime


class Dataset(Section):
    """Where photos come from. Labels are read where the format has them; pretraining never looks at them."""

    format: Literal["folder", "coco", "voc", "list_file", "demo_photos", "scenes"] = Field(
        "folder", description="demo_photos and scenes are made by this project; the others lie below `root`"
    )
    root: Place | None = runtime(None, description="the folder that holds the photos (voc: the devkit or a year in it)")
    annotations: Place | None = runtime(None, description="coco: the instances_*.json")
    split: str | None = Field(None, description="voc: a list in ImageSets/Main (trainval); scenes: train or test")
    list_file: Place | None = runtime(None, description="list_file: one path below root a line")
    min_side: Positive = Field(32, description="photos with a shorter side are rejected; pixels")
    max_rejected: Share = runtime(0.1, description="stop when a larger share of the files can't be used")
    scaled_decode: bool = Field(
        False, description="let libjpeg decode at 1/2, 1/4 or 1/8 size where crops allow it: faster, not pixel-exact"
    )

    @model_validator(mode="after")
    def _needs(self) -> Dataset:
        needs = {"folder": ["root"], "coco": ["root", "annotations"], "voc": ["root", "split"],
                 "list_file": ["root", "list_file"], "scenes": ["split"], "demo_photos": []}[self.format]  # fmt: skip
        for name in needs:
            if getattr(self, name) is None:
                raise ValueError(f"format '{self.format}' needs `{name}`")
        if self.format == "scenes" and self.split not in ("train", "test"):
            raise ValueError(f"split '{self.split}': scenes have the splits train and test")
        return self
