"""Step `import_neighbors`: the neighbours of an official file instead of step `retrieval`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.data.catalog import Catalog, Roots
from stages.exchange import json_stream
from stages.exchange.order import photo_numbers
from stages.exchange.values import places
from stages.report import Report
from stages.retrieval.tables import NeighborsWriter

PLACES = "pseudo_annotations.knn_image_id"
_BLOCK = 2**16  # photos


def run(*, out: Path, report: Report, catalog: Path, root: Roots, file: Path, neighbors: int) -> None:
    """Writes `neighbors.parquet` as `retrieval` does. The similarity of all neighbours is NaN: the file has none.

    A photo may be among its own neighbours, as the official code leaves one out by its rank and not by its number; such
    photos are counted (`own_neighbors`).

    Args:
        file: an official file of neighbours or of correspondence.
        neighbors: K, how many of each photo's are taken, nearest first.

    Raises:
        ValueError: the file is cut off, is about other photos, or has fewer neighbours.
    """
    photos = Catalog(catalog, root)
    numbers = photo_numbers(file, photos)
    count = len(photos)
    (out / "scratch").mkdir(exist_ok=True)
    table = np.lib.format.open_memmap(out / "scratch" / "neighbors.npy", "w+", np.int32, shape=(count, neighbors))
    place = -1
    for place, value in enumerate(json_stream.items(file, PLACES)):
        if place < count:
            found = places(value, neighbors, count, f"{file}, {PLACES}[{place}]")
            table[numbers[place]] = numbers[found]
        if place % 1000 == 0:
            report.progress(place, count, "photos")
    if place + 1 != count:
        raise ValueError(f"{file}: {PLACES} has {place + 1} entries for {count} photos. The file is damaged.")

    own = 0
    with NeighborsWriter(out) as writer:
        for first in range(0, count, _BLOCK):
            block = table[first : first + _BLOCK]
            own += int((block == np.arange(first, first + len(block))[:, None]).sum())
            writer.append(block, np.full(block.shape, np.nan, np.float32))
    report.progress(count, count, "photos")
    report.metric(images=count, neighbors=neighbors, own_neighbors=own)
