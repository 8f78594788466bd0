"""Step `class_maps`: the class of each pixel of each photo, made once for all encoders.

Two sources: label maps beside the photos (PASCAL, Cityscapes, ADE20K, COCO-stuff), see `label_styles`; or the masks of
objects in a catalog of COCO's format, which become classes on a background.

Writes the files of `stages.data.masks.storage`, with one layer, and `classes.json`, the names of the classes. Pixels
that count nowhere are IGNORED.
"""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from stages.correspondence.masks.ground_truth import has_masks, labelled_mask
from stages.data.catalog import Catalog, Roots
from stages.data.masks import Masks, records
from stages.data.masks.segmentation import LabelMaps
from stages.data.masks.storage import MasksWriter
from stages.evaluation.tasks.dense.label_styles import IGNORED, STYLES, LabelStyle
from stages.report import Report
from stages.shards import Engine, Shard, cut, make_shards

OBJECTS = "objects"
SOURCES = (*STYLES, OBJECTS)
BACKGROUND = "background"
CLASSES_FILE = "classes.json"

_LAYER = "classes"
_SHOWN = 3  # of the files that are missing


class ClassMaps:
    """The artifact of this step. Pickles as its path."""

    def __init__(self, directory: Path) -> None:
        self._masks = Masks(directory)
        self.names: list[str] = json.loads((Path(directory) / CLASSES_FILE).read_text())

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, image: int) -> np.ndarray:
        """(H, W) uint16 at the size of the photo: numbers of `names`, or IGNORED."""
        return self._masks.labels(image, 0)

    def check(self, images: int) -> None:
        """Raises ValueError unless these are the maps of `images` photos."""
        self._masks.check(images)


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    source: str,
    labels: Path | None,
    workers: int,
    engine: Engine,
) -> None:
    """Resumes an interrupted run from the shards in `out/scratch`.

    Args:
        source: one of STYLES for label maps, or "objects".
        labels: the folder of the label maps; None for "objects", and only then.
        workers: of `engine`, where it is this machine.

    Raises:
        ValueError, OSError: the source is unknown, or its labels are not there or not as they should be.
    """
    photos = Catalog(catalog, root)
    names = _checked_names(photos, source, labels)
    shards = cut(len(photos), out / "scratch", ".npz")
    make = functools.partial(_make, photos, source, labels, len(names))
    make_shards(make, shards, engine, report)
    pixels = np.zeros(len(names), np.int64)
    with MasksWriter(out, "labels", [_LAYER]) as writer:
        for shard in shards:
            made = _read(shard.path)
            writer.append(made["records"], made["lengths"])
            pixels += made["pixels"]
    (out / CLASSES_FILE).write_text(json.dumps(names))
    report.metric(photos=len(photos), classes=len(names), classes_seen=int((pixels > 0).sum()))


def _checked_names(photos: Catalog, source: str, labels: Path | None) -> list[str]:
    """The names of the classes, once it is known that all labels are there."""
    if source == OBJECTS:
        if labels is not None:
            raise ValueError(f"source={OBJECTS!r} has its labels in the catalog: leave out labels={labels}.")
        if not has_masks(photos):
            raise ValueError(
                f"the catalog in {photos.directory} has no masks of objects, and segmentation needs a class for each "
                f"pixel. Use a data set in COCO format, or label maps: source {', '.join(STYLES)} with their folder."
            )
        return [BACKGROUND, *photos.categories]
    if source not in STYLES:
        raise ValueError(f"source={source!r} is not known. Choose one of: {', '.join(SOURCES)}.")
    style = STYLES[source]
    if labels is None or not labels.is_dir():
        raise FileNotFoundError(f"labels={labels} is no folder of label maps. Expected: {style.source}.")
    files = (style.file_of(photos.name(image)) for image in range(len(photos)))
    missing = [file for file in files if not (labels / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(photos)} photos have no label map in {labels}, such as "
            f"{', '.join(missing[:_SHOWN])}. Expected: {style.source}. List only photos that have one."
        )
    return list(style.names)


def _make(photos: Catalog, source: str, labels: Path | None, classes: int, shard: Shard, path: Path) -> None:
    """The records of the shard's photos, and how many pixels each class has."""
    maps = _of_objects(photos, shard) if labels is None else _of_files(photos, STYLES[source], labels, shard)
    pixels, encoded = np.zeros(classes, np.int64), []
    for class_map in maps:
        pixels += np.bincount(class_map[class_map != IGNORED], minlength=classes)
        encoded.append(records.encode(LabelMaps(class_map.shape[::-1], [class_map])))
    with path.open("wb") as file:  # given a path, NumPy would add a suffix
        np.savez(
            file, records=np.frombuffer(b"".join(encoded), np.uint8), lengths=[len(record) for record in encoded],
            pixels=pixels,
        )  # fmt: skip


def _of_files(photos: Catalog, style: LabelStyle, folder: Path, shard: Shard) -> Iterator[np.ndarray]:
    table = style.table()
    for image in range(shard.first, shard.last):
        path, (width, height) = folder / style.file_of(photos.name(image)), photos.sizes[image].tolist()
        try:
            with Image.open(path, formats=["PNG"]) as file:
                numbers = np.asarray(file)  # of a picture with a palette the numbers, not the colours
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"the label map {path} can't be read: {error}. Unpack it again.") from error
        if numbers.shape != (height, width) or numbers.dtype != np.uint8:
            raise ValueError(
                f"the label map {path} is {numbers.dtype} of shape {numbers.shape} where its photo asks for uint8 of "
                f"shape {(height, width)}: one number a pixel, no colours. Expected: {style.source}."
            )
        yield table[numbers]


def _of_objects(photos: Catalog, shard: Shard) -> Iterator[np.ndarray]:
    """Class 0 is the background, class k + 1 category k. Small objects lie on large ones, as what is in front covers
    more often a part than the whole; crowds, whose outlines are rough, lie below all and are ignored."""
    labels = photos.labels_of(shard.first, shard.last, ["image", "category", "crowd", "segmentation"])
    of_image = dict(iter(labels.dropna(subset=["segmentation"]).groupby("image")))
    for image in range(shard.first, shard.last):
        width, height = photos.sizes[image].tolist()
        class_map = np.zeros((height, width), np.uint16)
        painted = []
        rows = of_image.get(image, labels[:0])
        for category, crowd, text in zip(rows["category"], rows["crowd"], rows["segmentation"], strict=True):
            mask = labelled_mask(text, photos, image)
            painted.append((not crowd, -int(mask.sum()), IGNORED if crowd else category + 1, mask))
        for *_, number, mask in sorted(painted, key=lambda each: each[:2]):
            class_map[mask] = number
        yield class_map


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error}). Delete that file and run again: the others stay.") from error
