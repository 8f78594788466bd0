"""Step `import_correspondence`: the pairs of an official file instead of steps `roi_features` and `correspondence`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from stages.correspondence.gallery import write_gallery
from stages.correspondence.pair_figures import PairFigures
from stages.correspondence.pair_quality import PairQuality, write_classes
from stages.correspondence.pair_shards import MinedPairs
from stages.correspondence.pair_table import PairsWriter
from stages.correspondence.preview import write_preview
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog, Roots
from stages.exchange import json_stream
from stages.exchange.neighbors import PLACES
from stages.exchange.order import photo_numbers
from stages.exchange.reordered import Reordered
from stages.exchange.values import pair_rows, places
from stages.report import Report

PAIRS = "pseudo_annotations.knn_bbox_pair"

_UNKNOWN = math.nan


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    retrieval: Path,
    regions: Path,
    file: Path,
    gallery_images: int,
) -> None:
    """Writes the files that `correspondence` writes. All similarities in them are NaN: the file has none.

    Args:
        retrieval, regions: imported from the same file, with all its boxes; K is that of `retrieval`.
        file: an official file of correspondence.
        gallery_images: photos shown in the gallery, at even steps through the data set.

    Raises:
        ValueError: the file is cut off, is about other photos, a box is none of its photo's, or a photo has no pair.
    """
    photos, boxes = Catalog(catalog, root), Boxes(regions)
    boxes.check(len(photos))
    neighbors = pq.read_metadata(retrieval / "neighbors.parquet").num_rows // len(photos)
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    nearest, pairs = _read(file, photos, boxes, neighbors, scratch, report)

    figures, first = PairFigures(), 0
    quality = None
    if photos.has_labels:
        quality = PairQuality(write_classes(photos, boxes, scratch / "classes.npy"), boxes.starts)
    with PairsWriter(out, boxes, neighbors) as writer:
        for sizes, rows in pairs.blocks():
            photo_and_rank = np.repeat(np.arange(len(sizes)), sizes) * neighbors + rows[:, 0]
            counts = np.bincount(photo_and_rank, minlength=len(sizes) * neighbors).reshape(-1, neighbors)
            found, rois = nearest[first : first + len(sizes)], rows[:, 1:]
            writer.append(found, counts, rois, np.full(len(rois), _UNKNOWN))
            # Figures about similarities are sums, which a NaN would spoil; those are left out below.
            mined = MinedPairs(found, counts, rois, np.zeros(len(rois)), np.zeros(len(sizes), bool))
            figures.add(mined)
            if quality is not None:
                quality.add(first, mined)
            first += len(sizes)

    metrics = {name: figures.metrics()[name] for name in ("pairs", "pairs_per_image_mean", "reused_share")}
    if quality is not None:
        metrics |= quality.metrics()
    report.metric(**metrics)
    unknown = dict.fromkeys(("similarity_mean", "similarity_median", "fallback_share"), _UNKNOWN)
    likeness = np.full(len(photos), _UNKNOWN, np.float32)
    settings = {"neighbors": neighbors, "file": file.name}
    write_gallery(out, photos, retrieval, likeness, settings=settings, metrics=metrics | unknown, count=gallery_images)
    write_preview(out, photos, retrieval, likeness)


def _read(
    file: Path, photos: Catalog, boxes: Boxes, neighbors: int, scratch: Path, report: Report
) -> tuple[np.ndarray, Reordered]:
    """(N, neighbors) int32 photo numbers, and for each photo the rows rank, roi, neighbor_roi of its pairs."""
    numbers, count = photo_numbers(file, photos), len(photos)
    nearest = np.lib.format.open_memmap(scratch / "neighbors.npy", "w+", np.int32, shape=(count, neighbors))
    with Reordered(scratch / "pairs.npy", 3, numbers) as pairs:
        for place, (found, value) in enumerate(json_stream.parallel(file, PLACES, PAIRS)):
            if place == count:
                raise ValueError(f"{file}: {PAIRS} has entries for more than {count} photos. The file is damaged.")
            image = int(numbers[place])
            nearest[image] = numbers[places(found, neighbors, count, f"{file}, {PLACES}[{place}]")]
            pairs.append(_pairs_of_place(value, image, nearest[image], boxes, f"{file}, {PAIRS}[{place}]"))
            if place % 1000 == 0:
                report.progress(place, count, "photos")
    if pairs.places != count:
        raise ValueError(f"{file}: {PAIRS} has {pairs.places} entries for {count} photos. The file is damaged.")
    report.progress(count, count, "photos")
    return nearest, pairs


def _pairs_of_place(value: Any, image: int, neighbors: np.ndarray, boxes: Boxes, where: str) -> np.ndarray:
    """(n, 3) int64. value: for each neighbour a list of pairs, further ones are not looked at. neighbors: (K,)."""
    if not isinstance(value, list) or len(value) < len(neighbors):
        raise ValueError(f"{where} does not have a list of pairs for each of the {len(neighbors)} neighbours.")
    rows = []
    for rank, neighbor in enumerate(neighbors.tolist()):
        here = f"{where}[{rank}]"
        own, other = pair_rows(value[rank], here)
        rois, neighbor_rois = _rois(own, boxes.of(image), here), _rois(other, boxes.of(neighbor), here)
        rows.append(np.column_stack([np.full(len(rois), rank), rois, neighbor_rois]))
    if not any(map(len, rows)):
        raise ValueError(f"{where} has no pair at all: training draws one of every photo. Make the file again.")
    return np.concatenate(rows)


def _rois(wanted: np.ndarray, boxes: np.ndarray, where: str) -> np.ndarray:
    """(n,) which of a photo's boxes each of (n, 4) is."""
    same = (wanted[:, None] == boxes[None]).all(axis=2)
    if not same.any(axis=1).all():
        x0, y0, x1, y1 = wanted[~same.any(axis=1)][0].tolist()
        raise ValueError(
            f"{where}: the box {[x0, y0, x1 - x0, y1 - y0]} (x, y, width, height) is none of those that the file lists "
            "for its photo. The file is damaged."
        )
    return same.argmax(axis=1)
