"""How data sets keep the label maps of their photos: under which names, and what the numbers in them mean.

A label map lies below the folder of label maps where its photo lies below the data set's root.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from stages.data.formats.voc import CATEGORIES

IGNORED = 65535  # in class maps: the pixel has no class and counts nowhere


@dataclass(frozen=True)
class LabelStyle:
    """
    Attributes:
        photo_end, label_end: what a photo's name ends with, and what its label map's name ends with instead. "" stands
            for the suffix, whatever it is.
        values: the numbers that are classes, in the order of the classes; all others are ignored.
        names: of the classes.
        flat: whether the label maps lie in one folder, whatever the folders of the photos.
        source: where the user gets the data and how it is laid out, for messages.
    """

    photo_end: str
    label_end: str
    values: tuple[int, ...]
    names: tuple[str, ...]
    flat: bool
    source: str

    def file_of(self, photo: str) -> str:
        """The label map of `photo`, both as paths below their folders.

        Raises:
            ValueError: a photo has no such name.
        """
        path = PurePosixPath(photo)
        if not path.name.endswith(self.photo_end):
            raise ValueError(f"the photo {photo} should be named *{self.photo_end}. Expected: {self.source}")
        stem = path.name.removesuffix(self.photo_end) if self.photo_end else path.stem
        name = stem + self.label_end
        return name if self.flat else str(path.with_name(name))

    def table(self) -> np.ndarray:
        """(256,) uint16: the class of each number in a label map, or IGNORED."""
        table = np.full(256, IGNORED, np.uint16)
        table[list(self.values)] = np.arange(len(self.values))
        return table


# fmt: off
_CITYSCAPES = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}
# Of COCO's numbers 1 .. 182, less 1, these were never used.
_COCO_UNUSED = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
# fmt: on
_COCO_STUFF = tuple(value for value in range(182) if value not in _COCO_UNUSED)

STYLES = {
    "pascal": LabelStyle(
        "", ".png", tuple(range(21)), ("background", *CATEGORIES), True,
        "photos in VOC2012/JPEGImages and label maps NAME.png with 0 (background) to 20, 255 where ignored: "
        "VOC2012/SegmentationClass of host.robots.ox.ac.uk/pascal/VOC/voc2012, or SegmentationClassAug with those of "
        "SBD (Hariharan et al. 2011) too, 10,582 for training",
    ),
    "cityscapes": LabelStyle(
        "_leftImg8bit.png", "_gtFine_labelIds.png", tuple(_CITYSCAPES.values()), tuple(_CITYSCAPES), False,
        "photos in leftImg8bit/train/CITY/*_leftImg8bit.png and label maps in gtFine/train/CITY/*_gtFine_labelIds.png, "
        "of leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip at cityscapes-dataset.com (account needed)",
    ),
    "ade20k": LabelStyle(
        "", ".png", tuple(range(1, 151)), tuple(f"class {number}" for number in range(1, 151)), False,
        "photos in ADEChallengeData2016/images/training and label maps in annotations/training, 0 where ignored, of "
        "ADEChallengeData2016.zip at sceneparsing.csail.mit.edu",
    ),
    "coco_stuff": LabelStyle(
        "", ".png", _COCO_STUFF, tuple(f"COCO {value + 1}" for value in _COCO_STUFF), False,
        "photos in train2017 and label maps in stuffthingmaps/train2017, of stuffthingmaps_trainval2017.zip at "
        "github.com/nightrome/cocostuff",
    ),
}  # fmt: skip
