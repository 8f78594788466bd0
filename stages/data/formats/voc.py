"""Format `voc`: the development kit of Pascal VOC (JPEGImages/, Annotations/*.xml, ImageSets/Main/<split>.txt)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# Expat, beneath this module, loads no external entity and stops the expansion of nested ones ("billion laughs"), so
# an annotation from elsewhere can neither read files nor fill the memory.
from xml.etree import ElementTree

import numpy as np

from stages.data.formats.listing import Labels, Listing, inside_root, object_table
from stages.data.texts import Texts

# All twenty always, so that a category has the same number in every split.
# fmt: off
CATEGORIES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]
# fmt: on


def read(root: Path, split: str) -> Listing:
    """The photos of ImageSets/Main/`split`.txt, in the order of that file.

    Args:
        root: the folder of one year (VOCdevkit/VOC2007), or VOCdevkit itself; then `split` carries the year
            (`VOC2007/trainval`) unless there is only one.

    Raises:
        ValueError: no such split; the message names those that exist. Or it names photos outside `root`.
        FileNotFoundError: `root` is no development kit, or the annotation of a photo is missing.
    """
    year, name = _year_and_split(root, split)
    names_file = root / year / "ImageSets" / "Main" / f"{name}.txt"
    if "/" in name or not names_file.is_file():
        raise ValueError(f"dataset.split={split!r} does not exist in {root}. Choose one of: {_known_splits(root)}.")
    # The files of a single class add 1, 0 or -1 to each name.
    names = list(dict.fromkeys(line.split()[0] for line in names_file.read_text().splitlines() if line.strip()))
    prefix = f"{year}/" if year else ""
    paths = Texts.of(inside_root(f"{prefix}JPEGImages/{name}.jpg", root, names_file) for name in names)
    folder = root / year / "Annotations"
    if not folder.is_dir():  # some test sets come without
        return Listing(paths)
    annotations = [folder / f"{name}.xml" for name in names]
    return Listing(paths, annotations, lambda: _read_labels(annotations))


def _year_and_split(root: Path, split: str) -> tuple[str, str]:
    """The year's folder relative to `root` ("" where `root` is one) and the bare name of the split."""
    if (root / "ImageSets" / "Main").is_dir():
        return "", split
    years = _years(root)
    if not years:
        raise FileNotFoundError(
            f"dataset.root={root} is no VOC development kit: neither ImageSets/Main nor VOC*/ImageSets/Main is in it. "
            "Point it at VOCdevkit/VOC2007, or use dataset.format=folder for photos without labels."
        )
    year, slash, name = split.partition("/")
    if slash:
        return year, name
    return (years[0], split) if len(years) == 1 else ("", split)


def _years(root: Path) -> list[str]:
    return sorted(path.parents[1].name for path in root.glob("VOC*/ImageSets/Main"))


def _known_splits(root: Path) -> str:
    single = (root / "ImageSets" / "Main").is_dir()
    found = root.glob("ImageSets/Main/*.txt" if single else "VOC*/ImageSets/Main/*.txt")
    return ", ".join(sorted(path.stem if single else f"{path.parents[2].name}/{path.stem}" for path in found)) or "none"


def _read_labels(annotations: list[Path]) -> Labels:
    sizes = np.zeros((len(annotations), 2), dtype=np.int64)
    objects = []
    for image, path in enumerate(annotations):
        try:
            tree = ElementTree.parse(path).getroot()
            width, height = (int(tree.findtext(f"size/{side}", "0")) for side in ("width", "height"))
            objects += [(image, *found) for found in _objects(tree)]
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{path} is missing, but the split names its photo. Unpack the annotations again, or remove the folder "
                "Annotations to use the photos without labels."
            ) from None
        except (ElementTree.ParseError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is no VOC annotation ({error}). Unpack the annotations again.") from error
        sizes[image] = width, height
    found = {name for _, name, *_ in objects}
    categories = CATEGORIES if found.issubset(CATEGORIES) else sorted(found)
    number = {name: index for index, name in enumerate(categories)}
    rows = [(image, number[name], *box, difficult, False, None) for image, name, box, difficult in objects]
    return Labels(categories, object_table(rows), sizes)


def _objects(tree: ElementTree.Element) -> Iterator[tuple[str, tuple[float, float, float, float], bool]]:
    """Name, box and difficult flag of each object.

    VOC counts pixels from 1 and includes the last one (Everingham et al. 2010, development kit, section 3.3); ours
    are counted from 0, half-open: xmin..xmax becomes [xmin - 1, xmax).
    """
    for found in tree.findall("object"):
        xmin, ymin, xmax, ymax = (
            float(found.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        difficult = found.findtext("difficult", "0").strip() == "1"
        yield found.findtext("name", "").strip(), (xmin - 1, ymin - 1, xmax, ymax), difficult
