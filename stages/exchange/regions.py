"""Step `import_regions`: the boxes of an official file instead of step `regions`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.correspondence.filter import filter_boxes
from stages.data.boxes import MOST_BOXES, BoxesWriter
from stages.data.catalog import Catalog, Roots
from stages.exchange import json_stream
from stages.exchange.order import photo_numbers
from stages.exchange.reordered import Reordered
from stages.exchange.values import box_rows, check_inside
from stages.report import Report

PROPOSALS, FILTERED = "bbox", "pseudo_annotations.bbox"


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    file: Path,
    order: Path,
    filters: Mapping[str, Any] | None,
) -> None:
    """Writes `boxes.parquet`, `corners.npy` and `starts.npy` as `regions` does.

    The score of a box is minus its place among the photo's boxes in the file, which is all that the file says. A photo
    none of whose boxes passes the filter gets its whole area, with the score NaN, as in `regions`.

    Args:
        file: an official file of proposals, or, without `filters`, of correspondence.
        order: what tells which photo is at which place, see `order.photo_numbers`.
        filters: min_side, max_aspect, max_iou and max_boxes of `filter.filter_boxes`. None: boxes are taken as they
            are.

    Raises:
        ValueError: a file is cut off, is about other photos, or has a box outside of its photo.
    """
    photos = Catalog(catalog, root)
    numbers = photo_numbers(order, photos)
    count, proposed, fallbacks, place = len(photos), 0, 0, -1
    list_name = FILTERED if filters is None else PROPOSALS
    (out / "scratch").mkdir(exist_ok=True)
    with Reordered(out / "scratch" / "boxes.npy", 5, numbers) as kept:
        for place, value in enumerate(json_stream.items(file, list_name)):
            if place >= count:
                continue  # counted, and said below
            size = tuple(photos.sizes[numbers[place]].tolist())
            where = f"{file}, {list_name}[{place}]"
            boxes = box_rows(value, where)
            check_inside(boxes, size, where)
            rows = np.arange(len(boxes)) if filters is None else filter_boxes(boxes, **filters)
            if len(rows) > MOST_BOXES:
                raise ValueError(f"{where} has {len(rows)} boxes; a photo may have {MOST_BOXES}.")
            proposed += len(boxes)
            if len(rows):
                kept.append(np.column_stack([boxes[rows], rows]))
            else:
                kept.append(np.array([[0, 0, *size, -1]]))
                fallbacks += 1
            if place % 1000 == 0:
                report.progress(place, count, "photos")
    if place + 1 != count:
        raise ValueError(
            f"{file}: {list_name} has {place + 1} entries for {count} photos. Either it is another kind of file, or it "
            f"is about other photos than {order}."
        )
    total = 0
    with BoxesWriter(out) as writer:
        for counts, found in kept.blocks():
            scores = np.where(found[:, 4] >= 0, -found[:, 4], np.nan).astype(np.float32)
            writer.append(counts, found[:, :4], scores)
            total += len(found)
    report.progress(count, count, "photos")
    report.metric(
        boxes=total,
        boxes_per_image_mean=total / count,
        proposals_per_image_mean=proposed / count,
        fallback_images=fallbacks,
    )
