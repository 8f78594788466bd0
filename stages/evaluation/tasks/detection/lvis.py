"""What LVIS says beside the objects: which categories were looked for in a photo (see `metrics.coco_ap.Federation`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from stages.data.catalog import Catalog
from stages.evaluation.metrics.coco_ap import Federation


def read_federation(annotations: Path, catalog: Catalog) -> Federation:
    """Reads it from LVIS' JSON file, an entry at a time.

    Args:
        annotations: such as lvis_v1_val.json.
        catalog: of the same file. Photos are recognised by the names of their files, which are numbers of COCO.

    Raises:
        ValueError: the file is none of LVIS, or of other categories than the catalog.
    """
    number_of = {Path(catalog.name(image)).name: image for image in range(len(catalog))}
    categories = sorted(_entries(annotations, "categories"), key=lambda category: category["id"])
    if [each["name"] for each in categories] != catalog.categories or any("frequency" not in c for c in categories):
        raise ValueError(
            f"{annotations} is no file of LVIS with the categories of the test photos: each needs `frequency`. Give "
            "the file that the test catalog was made of, such as lvis_v1_val.json (www.lvisdataset.org/dataset)."
        )
    category_of = {category["id"]: number for number, category in enumerate(categories)}
    absent: defaultdict[int, set[int]] = defaultdict(set)
    incomplete: defaultdict[int, set[int]] = defaultdict(set)
    for photo in _entries(annotations, "images"):
        image = number_of.get(str(photo.get("file_name") or photo.get("coco_url")).rpartition("/")[2])
        if image is None:  # could not be decoded, so that the catalog leaves it out
            continue
        for ids, photos in (
            (photo.get("neg_category_ids"), absent),
            (photo.get("not_exhaustive_category_ids"), incomplete),
        ):
            if ids is None:
                raise ValueError(
                    f"{annotations}: photo {photo.get('id')} has no `neg_category_ids` or no "
                    "`not_exhaustive_category_ids`, so it is no file of LVIS. Take metric 'coco' for COCO's files."
                )
            for each in ids:
                photos[category_of[each]].add(image)
    return Federation(absent, incomplete, [category["frequency"] for category in categories])


def _entries(annotations: Path, name: str) -> Iterator[dict[str, Any]]:
    with annotations.open("rb") as file:
        yield from ijson.items(file, f"{name}.item")
