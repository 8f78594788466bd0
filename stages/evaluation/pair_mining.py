"""Stages 2 and 3 for a bare encoder: pairs of boxes of labelled photos, mined as ORL mines them.

ORL finds neighbours by the projector's output. What is evaluated here has no projector, so photos are compared as boxes
are: by the global average of the backbone's last feature map.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from stages.correspondence.best_pairs import Rule
from stages.correspondence.pair_shards import Sources, mine_shard
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog
from stages.data.npy_file import NpyWriter
from stages.data.rows import Rows
from stages.data.views import View, plain_view
from stages.evaluation.drawn_features import drawn_features
from stages.learning.backbones import Backbone
from stages.learning.devices import resolve_device
from stages.learning.unit_half import unit_half
from stages.report import Report
from stages.retrieval.exact import ExactFinder
from stages.retrieval.neighbors import nearest_neighbors
from stages.retrieval.tables import NeighborsWriter
from stages.shards import LocalEngine, Shard, cut, make_shards

_ROWS = 16384  # that are normalised together


def mine(
    scratch: Path,
    backbone: Backbone,
    features: np.ndarray,
    catalog: Catalog,
    boxes: Boxes,
    *,
    neighbors: int,
    rule: Rule,
    size: int,
    batch_size: int,
    device: str,
    workers: int,
    report: Report,
) -> list[Shard]:
    """Pairs the boxes of each photo with those of its nearest neighbours. What is in `scratch` is not made again.

    Args:
        features: (N, C) float32, of the whole photos.
        neighbors: K, less than N.
        rule: which pairs.
        size: side to which a box is squeezed; pixels.

    Returns:
        Shards whose files are `MinedPairs`.

    Raises:
        ValueError: there are not as many photos.
    """
    if not 1 <= neighbors < len(catalog):
        raise ValueError(
            f"pair_purity.neighbors={neighbors} is not possible with {len(catalog)} photos: it must be at least 1 "
            "and less than their number. Set it lower, or test on more photos."
        )
    _write_unit_rows(scratch / "embeddings.npy", features)
    rows, where = Rows(scratch / "embeddings.npy"), resolve_device(device)
    with NeighborsWriter(scratch) as table:
        for found in nearest_neighbors(rows, neighbors, ExactFinder(rows, neighbors, [where])):
            table.append(found.numbers, found.similarity)

    def views(image: int) -> list[View]:
        corners = boxes.of(image).tolist()
        return [plain_view(image, (x0, y0, x1, y1), size) for x0, y0, x1, y1 in corners]

    of_boxes = drawn_features(
        scratch / "box_features.npy", scratch / "boxes", backbone, catalog, views, len(catalog),
        batch_size=batch_size, device=device, workers=workers, report=report,
    )  # fmt: skip
    _write_unit_rows(scratch / "features.npy", of_boxes)
    sources = Sources(scratch, boxes.directory, scratch, len(catalog))
    sources.check()
    shards = cut(len(catalog), scratch / "pairs", ".npz")
    make = partial(mine_shard, sources, rule, str(where), sources.lost_to_rounding(str(where)))
    make_shards(make, shards, LocalEngine(workers if where.type == "cpu" else 1), report)
    return shards


def _write_unit_rows(path: Path, features: np.ndarray) -> None:
    """(n, C) float32, maybe memory-mapped, as `unit_half` stores them."""
    with NpyWriter(path, np.float16, features.shape[1:]) as file:
        for first in range(0, len(features), _ROWS):
            file.append(unit_half(torch.from_numpy(np.array(features[first : first + _ROWS]))))
