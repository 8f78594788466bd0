"""Format `coco`: photos and boxes in one JSON file, as `instances_train2017.json` (cocodataset.org/#format-data).

LVIS (lvisdataset.org) writes the same, but for the address of a photo in place of its file name: there `root` is the
folder that holds `train2017` and `val2017`, as one of its lists may name photos of both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.data.formats.listing import Labels, Listing, inside_root, object_table
from stages.data.formats.remembered import Named, remembered
from stages.data.texts import Texts


def read(root: Path, annotations: Path, cache: Path | None = None) -> Listing:
    """The photos that `annotations` lists, below `root`, in the order of that file, with or without objects.

    Args:
        cache: see `stages.data.formats.remembered`.

    Raises:
        ValueError: `annotations` is not such a file, or a photo lies outside `root`.
    """

    def parsed() -> Named:
        content = _parse(annotations, keep_objects=False)
        images = _images(content, root, annotations)
        # Without annotations: such as image_info_test2017.json.
        return Named(Texts.of(dict.fromkeys(path for path, _ in images.values())), bool(content.get("annotations")))

    paths, labelled = remembered(cache, [annotations], ["coco", str(root.absolute())], parsed)
    return Listing(paths, [annotations], lambda: _read_labels(root, annotations, paths)) if labelled else Listing(paths)


class _Object(NamedTuple):
    image_id: Any
    category_id: Any
    box: tuple[float, float, float, float]
    crowd: bool
    segmentation: str | None


def _parse(annotations: Path, keep_objects: bool) -> dict[str, Any]:
    """The JSON file, its annotations reduced to `_Object` (or None) one by one while it is read.

    As Python lists the polygons of COCO would take gigabytes, many times their text.
    """

    def reduce(entry: dict[str, Any]) -> Any:
        if "image_id" not in entry:
            return entry
        return _object(entry) if keep_objects else None

    try:
        with annotations.open("rb") as file:
            content = json.load(file, object_hook=reduce)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"dataset.annotations={annotations} is not JSON ({error}). Unpack it again.") from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(
            f"dataset.annotations={annotations} has no list `images`, so it is no COCO annotation file. "
            "Pass one like instances_train2017.json."
        )
    return content


def _object(entry: dict[str, Any]) -> _Object | None:
    box, category = entry.get("bbox"), entry.get("category_id")
    if category is None or not isinstance(box, list) or len(box) != 4:
        return None
    if not all(isinstance(each, int | float) for each in box):
        return None
    x, y, width, height = box
    polygons = entry.get("segmentation")
    text = json.dumps(polygons, separators=(",", ":")) if polygons else None
    return _Object(entry["image_id"], category, (x, y, x + width, y + height), bool(entry.get("iscrowd", 0)), text)


def _images(content: dict[str, Any], root: Path, annotations: Path) -> dict[Any, tuple[str, tuple[int, int]]]:
    """COCO's image id -> path, (width, height)."""
    images = {}
    for entry in content["images"]:
        name = _file_name(entry) if isinstance(entry, dict) else None
        if name is None or "id" not in entry:
            raise ValueError(
                f"dataset.annotations={annotations}: each of `images` needs `id` and `file_name`, not {entry!r:.200}."
            )
        size = int(entry.get("width") or 0), int(entry.get("height") or 0)
        images[entry["id"]] = inside_root(name, root, annotations), size
    return images


def _file_name(image: dict[str, Any]) -> str | None:
    """Of LVIS the last folder and the name in `http://images.cocodataset.org/train2017/000000391895.jpg`."""
    if isinstance(image.get("file_name"), str):
        return image["file_name"]
    address = image.get("coco_url")
    return "/".join(address.split("/")[-2:]) if isinstance(address, str) else None


def _read_labels(root: Path, annotations: Path, paths: Texts) -> Labels:
    content = _parse(annotations, keep_objects=True)
    images = _images(content, root, annotations)
    index = {path: image for image, path in enumerate(paths)}
    image_of_id = {key: index[path] for key, (path, _) in images.items()}
    sizes = np.zeros((len(paths), 2), dtype=np.int64)
    for path, size in images.values():
        sizes[index[path]] = size

    listed = sorted(content.get("categories", []), key=lambda category: category["id"])
    category_of_id = {category["id"]: number for number, category in enumerate(listed)}
    objects = content.pop("annotations")
    if None in objects:
        raise ValueError(
            f"dataset.annotations={annotations}: annotation {objects.index(None)} has no `bbox` of four numbers or no "
            "`category_id`. "
            "Pass a file of instances, not of captions or key points."
        )
    unknown = {found.category_id for found in objects} - category_of_id.keys()
    if unknown:
        raise ValueError(
            f"dataset.annotations={annotations}: the category {min(unknown)!r} of some annotations is not among "
            "`categories`. Add it there or remove them."
        )
    rows = [
        (image_of_id[found.image_id], category_of_id[found.category_id], *found.box, False, *found[3:])
        for found in objects
        if found.image_id in image_of_id  # lists of fewer photos often keep the annotations of all
    ]
    return Labels([category["name"] for category in listed], object_table(rows), sizes)
