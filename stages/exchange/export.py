"""Neighbours, boxes and pairs as the three files that the official code reads."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from stages.data.boxes import Boxes
from stages.data.catalog import Catalog
from stages.exchange import json_stream

PROPOSALS_FILE = "selective_search.json"
CORRESPONDENCE_FILE = "correspondence.json"

log = logging.getLogger(__name__)

_ROWS = 2**16
_BOX = ["x0", "y0", "x1", "y1"]
_NEIGHBOR_BOX = [f"neighbor_{side}" for side in _BOX]


def export(
    out: Path,
    *,
    photos: Catalog,
    retrieval: Path,
    regions: Path,
    correspondence: Path,
    min_side: int,
    max_aspect: float,
    max_iou: float,
    max_boxes: int,
    fraction: float,
) -> list[Path]:
    """Writes `<K>nn_instance.json`, `selective_search.json` and `correspondence.json` into `out`; returns the paths.

    Photos are in the order of the catalog, and named by their path relative to its root. Their ids are the numbers that
    their files are called by, as COCO's are, or, where not all are called so, their numbers in the catalog.
    `selective_search.json` has the boxes that passed the filter, as no others are kept; the official filter keeps them
    all.

    Args:
        retrieval, regions, correspondence: directories of these artifacts, made from the catalog of `photos`.
        min_side, max_aspect, max_iou, max_boxes, fraction: the settings they were made with, for `info`.

    Raises:
        ValueError: the artifacts do not fit each other.
    """
    boxes = Boxes(regions)
    boxes.check(len(photos))
    neighbors = _neighbors_each(retrieval / "neighbors.parquet", len(photos))
    named = _has_numbers_for_names(photos)

    def ids() -> Iterator[int]:
        return (_id(photos, image) if named else image for image in range(len(photos)))

    def common() -> dict[str, Any]:
        names = (photos.name(image) for image in range(len(photos)))
        return {"images": {"file_name": names, "id": ids()}}

    def knn() -> Iterator[list[int]]:
        return _grouped(retrieval / "neighbors.parquet", ["neighbor"], neighbors)

    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "bbox_min_size": min_side,
        "bbox_max_aspect_ratio": max_aspect,
        "bbox_max_iou": max_iou,
        "intra_bbox_num": max_boxes,
        "knn_image_num": neighbors,
        "knn_bbox_pair_ratio": fraction,
    }
    knn_path, boxes_path, pairs_path = (
        out / name for name in (f"{neighbors}nn_instance.json", PROPOSALS_FILE, CORRESPONDENCE_FILE)
    )
    found = {"image_id": ids(), "knn_image_id": knn()}
    json_stream.dump(knn_path, {"info": {"knn_image_num": neighbors}, **common(), "pseudo_annotations": found})
    json_stream.dump(boxes_path, {"bbox": _boxes(boxes)})
    found = {"image_id": ids(), "bbox": _boxes(boxes), "knn_image_id": knn(),
             "knn_bbox_pair": _pairs(correspondence / "pairs.parquet", len(photos), neighbors)}  # fmt: skip
    json_stream.dump(pairs_path, {"info": settings, **common(), "pseudo_annotations": found})
    return [knn_path, boxes_path, pairs_path]


def _has_numbers_for_names(photos: Catalog) -> bool:
    """Whether the files are called by different numbers, such as 000000000009.jpg."""
    if not all(re.fullmatch(r"\d{1,18}", Path(photos.name(image)).stem) for image in range(len(photos))):
        return False
    numbers = np.fromiter((_id(photos, image) for image in range(len(photos))), np.int64, len(photos))
    return len(np.unique(numbers)) == len(photos)


def _id(photos: Catalog, image: int) -> int:
    return int(Path(photos.name(image)).stem)


def _neighbors_each(path: Path, photos: int) -> int:
    """K. Raises ValueError unless there are so many for each photo."""
    rows = pq.ParquetFile(path).metadata.num_rows
    if rows == 0 or rows % photos:
        raise ValueError(f"{path} has {rows} rows, which are not equally many for each of the {photos} photos.")
    return rows // photos


def _boxes(boxes: Boxes) -> Iterator[list[list[int]]]:
    return (_sized(boxes.of(image)).tolist() for image in range(boxes.images))


def _sized(corners: np.ndarray) -> np.ndarray:
    """x, y, width, height of (n, 4) x0, y0, x1, y1."""
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])


def _rows(path: Path, columns: list[str]) -> Iterator[list[int]]:
    for batch in pq.ParquetFile(path).iter_batches(_ROWS, columns=columns):
        yield from np.column_stack([batch[name].to_numpy() for name in columns]).tolist()


def _grouped(path: Path, columns: list[str], each: int) -> Iterator[list[int]]:
    """Of a table that is sorted by photo and rank, the one column's values, `each` a photo."""
    rows = _rows(path, columns)
    for first in rows:
        yield [first[0], *(next(rows)[0] for _ in range(each - 1))]


def _pairs(path: Path, photos: int, neighbors: int) -> Iterator[list[list[list[int]]]]:
    """For each photo, for each of its neighbours, the pairs: both boxes as x, y, width, height."""
    by_photo = groupby(_rows(path, ["image", "rank", *_BOX, *_NEIGHBOR_BOX]), key=itemgetter(0))
    image, group = next(by_photo, (photos, iter(())))
    without = 0
    for photo in range(photos):
        pairs: list[list[list[int]]] = [[] for _ in range(neighbors)]
        if image == photo:
            for _, rank, *corners in group:
                x0, y0, x1, y1, a0, b0, a1, b1 = corners
                pairs[rank].append([x0, y0, x1 - x0, y1 - y0, a0, b0, a1 - a0, b1 - b0])
            image, group = next(by_photo, (photos, iter(())))
        without += sum(not each for each in pairs)
        yield pairs
    if without:
        log.warning(
            "%d of %d photos and neighbours have no pair. The official training fails on these: lower "
            "correspondence.min_similarity, or turn mutual and unique off.",
            without,
            photos * neighbors,
        )
