"""Features of pictures that are drawn from photos, such as objects and augmented views, one row a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from stages.correspondence.crops import refilled
from stages.data.catalog import Catalog
from stages.data.mapped import Mapped
from stages.data.npy_file import NpyWriter
from stages.data.views import View
from stages.evaluation.pictures import draw
from stages.learning.backbones import Backbone
from stages.learning.devices import resolve_device
from stages.process import pool
from stages.report import Report
from stages.shards import LocalEngine, Shard, cut, make_shards

_SHARD = 512  # photos that an interruption may cost
# Starting a worker takes as long as drawing about this many pictures: a smaller job is done in this process.
_PICTURES_A_WORKER = 2000


def drawn_features(
    path: Path,
    scratch: Path,
    backbone: Backbone,
    catalog: Catalog,
    views: Callable[[int], Sequence[View]],
    count: int,
    *,
    batch_size: int,
    device: str,
    workers: int,
    report: Report,
) -> np.ndarray:
    """Global averages of the last feature map, written to `path` and returned memory-mapped: (M, C) float32.

    Each photo is decoded once. An interrupted run goes on from the shards in `scratch`.

    Args:
        views: those of one photo, by its place 0 .. `count` - 1; rows come in this order. A function, as the boxes of
            millions of photos are no list to hold.
        workers: processes that draw.
    """
    where = resolve_device(device)
    network = backbone.eval().to(where)
    shards = cut(count, scratch, ".npy", _SHARD)
    expected = count * len(views(0))
    with pool(min(workers, expected // _PICTURES_A_WORKER)) as processes:

        @torch.inference_mode()
        def make(shard: Shard, partial_path: Path) -> None:
            drawn = draw(processes, catalog, [views(place) for place in range(shard.first, shard.last)])
            with NpyWriter(partial_path, np.float32, (backbone.channels,)) as file:
                for batch in refilled(drawn, batch_size):
                    file.append(network(batch.to(where)).mean(dim=(2, 3), dtype=torch.float32).cpu().numpy())

        make_shards(make, shards, LocalEngine(1), report)
    with NpyWriter(path, np.float32, (backbone.channels,)) as file:
        for shard in shards:
            file.append(Mapped(shard.path).array)
    return Mapped(path).array
