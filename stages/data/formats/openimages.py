"""Format `openimages`: Open Images V4 to V7 (storage.googleapis.com/openimages), photos as ID.jpg and boxes as CSV."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from stages.data.formats.folder import files_below, in_order
from stages.data.formats.listing import Labels, Listing, inside_root
from stages.data.formats.remembered import Named, remembered
from stages.data.texts import Texts

_SIDES = {"x0": "XMin", "y0": "YMin", "x1": "XMax", "y1": "YMax"}
_TYPES = (
    {"ImageID": pa.large_string(), "LabelName": pa.string(), "IsGroupOf": pa.int8()}
    | dict.fromkeys(_SIDES.values(), pa.float64())
)  # fmt: skip


class Subset(NamedTuple):
    """Which photos and classes are taken: those of the object-aware cropping paper with 2 and 900, all with 1 and 1.

    The paper (Mishra et al., section 2): photos with boxes; of these the ones with objects of at least `min_classes`
    classes; of the classes those that occur in at least `min_images_per_class` of the latter. Photos in which no object
    of these classes is left are dropped, one class is enough to stay: the paper does not say that it counts a second
    time, and mentions a few objects of other classes in its photos. (It found 212,753 photos and 208 classes.)
    """

    min_classes: int
    min_images_per_class: int


def read(root: Path, annotations: Path, class_names: Path | None, chosen: Subset, cache: Path | None = None) -> Listing:
    """Photos with boxes, sorted by their ID, wherever below `root` their file is (train_0/, train_1/, ... or none).

    A photo whose file isn't there is listed as ID.jpg, so that it is counted as missing. A group of objects in one box
    (IsGroupOf) is a crowd. Listing takes some 60 bytes a box of memory for its time, which a plan spends only once.

    Args:
        annotations: such as oidv6-train-annotations-bbox.csv.
        class_names: such as oidv7-class-descriptions-boxable.csv; None calls classes by their codes (/m/01g317).
        cache: see `stages.data.formats.remembered`.

    Raises:
        ValueError: `annotations` has not the columns of such a file, or names photos outside `root`.
    """

    def parsed() -> Named:
        return Named(_chosen(annotations, chosen)[0], labelled=True)

    ids, _ = remembered(cache, [annotations], ["openimages", *chosen], parsed)
    ignored: Counter[str] = Counter()
    paths = _located(ids, in_order(files_below(root, {".jpg"}, ignored)), root, annotations)
    files = [annotations] if class_names is None else [annotations, class_names]
    return Listing(paths, files, lambda: _read_labels(annotations, class_names, chosen), ignored)


def _chosen(annotations: Path, chosen: Subset) -> tuple[Texts, list[str]]:
    """IDs of the photos and codes of the classes that are taken, both sorted."""
    columns = ["ImageID", "LabelName"]
    encoded = [[pc.dictionary_encode(batch[name]) for name in columns] for batch in _batches(annotations, columns)]
    images, classes = (pa.chunked_array(list(column)).unify_dictionaries() for column in zip(*encoded, strict=True))
    ids, codes = images.chunk(0).dictionary, classes.chunk(0).dictionary
    numbers = [np.concatenate([chunk.indices.to_numpy() for chunk in each.chunks]) for each in (images, classes)]

    occurrences = np.unique(numbers[0].astype(np.int64) * len(codes) + numbers[1])  # (image, class) that occur together
    image, category = occurrences // len(codes), occurrences % len(codes)
    varied = (np.bincount(image, minlength=len(ids)) >= chosen.min_classes)[image]
    frequent = np.bincount(category[varied], minlength=len(codes)) >= chosen.min_images_per_class
    taken = np.unique(image[varied & frequent[category]])
    names = ids.take(pa.array(taken))
    kept = codes.filter(pa.array(frequent))
    return Texts.from_arrow(names.take(pc.array_sort_indices(names))), sorted(kept.to_pylist())


def _batches(annotations: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Some megabytes of rows at a time.

    Raises:
        ValueError: the file has no such columns, or no rows.
    """
    convert = pyarrow.csv.ConvertOptions(include_columns=columns, column_types=_TYPES)
    rows = 0
    try:
        for batch in pyarrow.csv.open_csv(annotations, convert_options=convert):
            rows += len(batch)
            yield batch
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise ValueError(
            f"dataset.annotations={annotations} is no table of boxes of Open Images ({error}). Pass a CSV with the "
            f"columns {', '.join(_TYPES)}, like oidv6-train-annotations-bbox.csv."
        ) from error
    if not rows:
        raise ValueError(f"dataset.annotations={annotations} holds no boxes. Download it again.")


def _located(ids: Texts, files: Texts, root: Path, annotations: Path) -> Texts:
    """The path of each ID among `files`, which are sorted; of several files of one name the first."""
    stems = pc.replace_substring_regex(files.arrow(), r"^(?:.*/)?([^/]*)\.[^./]*$", r"\1")
    places = pc.index_in(ids.arrow(), value_set=stems)
    absent = pc.is_null(places)
    paths = files.arrow().take(pc.fill_null(places, 0)) if len(files) else ids.arrow()
    suffix, nothing = (pa.scalar(text, pa.large_string()) for text in (".jpg", ""))
    there = pc.if_else(absent, pc.binary_join_element_wise(ids.arrow(), suffix, nothing), paths)
    for path in Texts.from_arrow(there.filter(absent)):
        inside_root(path, root, annotations)
    return Texts.from_arrow(there)


def _read_labels(annotations: Path, class_names: Path | None, chosen: Subset) -> Labels:
    ids, codes = _chosen(annotations, chosen)
    images, classes = ids.arrow(), pa.array(codes, pa.string())
    found: list[pd.DataFrame] = []
    for batch in _batches(annotations, list(_TYPES)):
        image = pc.index_in(batch["ImageID"], value_set=images)
        category = pc.index_in(batch["LabelName"], value_set=classes)
        taken = pc.and_(pc.is_valid(image), pc.is_valid(category))
        columns = {"image": image, "category": category} | {side: batch[name] for side, name in _SIDES.items()}
        table = pa.table(columns | {"crowd": pc.equal(batch["IsGroupOf"], 1)}).filter(taken)
        found.append(table.to_pandas())
    objects = pd.concat(found, ignore_index=True)
    objects.insert(6, "difficult", False)
    objects["segmentation"] = pd.array([None] * len(objects), dtype="str")
    return Labels(_names(codes, class_names), objects, sizes=None, relative=True)


def _names(codes: list[str], class_names: Path | None) -> list[str]:
    """The words for the codes; a word that stands for several is told apart by the code."""
    if class_names is None:
        return codes
    with class_names.open(encoding="utf-8-sig", newline="") as file:
        word_of = {row[0]: row[1] for row in csv.reader(file) if len(row) == 2}
    unknown = [code for code in codes if code not in word_of]
    if unknown:
        raise ValueError(
            f"dataset.class_names={class_names} has no name for the class {unknown[0]}. Pass the descriptions of the "
            "same version as the boxes, two columns: code, name."
        )
    words = Counter(word_of[code] for code in codes)
    return [word_of[code] if words[word_of[code]] == 1 else f"{word_of[code]} ({code})" for code in codes]
