"""Step `regions`: the boxes of each photo that may hold an object. Needs no network, so it may run beside stage 1."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from stages.correspondence.filter import filter_boxes
from stages.correspondence.proposals import proposals_by_name
from stages.data.catalog import Catalog
from stages.data.decode import decode
from stages.process import ordered_map, pool
from stages.report import Report

BOXES_FILE = "boxes.parquet"

_SCHEMA = pa.schema(
    [("image", pa.int32()), ("roi", pa.int16())]
    + [(side, pa.int32()) for side in ("x0", "y0", "x1", "y1")]
    + [("score", pa.float32())]
)
_SHARD = 16  # photos: what an interruption costs each worker
_ROW_GROUP = 2**17
_MANY_FALLBACKS = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Search:
    """The settings that a worker needs."""

    scratch: Path
    proposals: str
    mode: str
    max_side: int | None
    min_side: int
    max_aspect: float
    max_iou: float
    max_boxes: int
    seed: int


@dataclass(frozen=True)
class _Shard:
    """Consecutive photos: their numbers, files, and the SHA-256 of their contents."""

    first: int
    photos: list[tuple[int, Path, str]]


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Path,
    proposals: str,
    mode: str,
    max_side: int | None,
    min_side: int,
    max_aspect: float,
    max_iou: float,
    max_boxes: int,
    seed: int,
    workers: int,
) -> None:
    """Proposes boxes in every photo and keeps those that pass ORL's filter.

    Writes `boxes.parquet` (image int32, roi int16 from 0, x0, y0, x1, y1 int32 in pixels of the original photo, score
    float32), sorted by image and roi. Every photo has a box: where none passes the filter, the whole photo, with the
    score NaN. (The official code then takes a random low-level segment, often a few pixels wide.)

    Resumes an interrupted run from the shards in `out/scratch`, which belong to the same settings as `out` does.

    Args:
        proposals, mode: the algorithm and its variant, see `stages.correspondence.proposals`.
        max_side: the search sees a copy whose longer side is at most this many pixels; None for the photo as it is.
        min_side: least side of a box, in pixels of the picture *that is searched*, so lower it along with `max_side`.
        max_aspect, max_iou, max_boxes: see `stages.correspondence.filter.filter_boxes`.
        seed: with the photo's content, decides the order of proposals that have no order of their own.
    """
    images = Catalog(catalog, root)
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    search = _Search(scratch, proposals, mode, max_side, min_side, max_aspect, max_iou, max_boxes, seed)
    hashes = images.images["sha256"].to_list()
    shards = [
        _Shard(first, [(image, images.path(image), hashes[image]) for image in range(first, last)])
        for first, last in ((first, min(first + _SHARD, len(images))) for first in range(0, len(images), _SHARD))
    ]
    done = 0
    with pool(min(workers, len(shards))) as processes:
        for count in ordered_map(processes, functools.partial(_make, search), shards, window=4 * max(1, workers)):
            done += count
            report.progress(done, len(images), "photos")
    _concatenate(out / BOXES_FILE, [_shard_path(scratch, shard) for shard in shards], report)


def _make(search: _Search, shard: _Shard) -> int:
    """Writes the shard unless a former attempt has. Returns its number of photos."""
    path = _shard_path(search.scratch, shard)
    if _is_whole(path, shard):
        return len(shard.photos)
    tables, proposed, start = [], 0, time.perf_counter()
    for image, photo, sha256 in shard.photos:
        table, count = _regions(search, image, photo, sha256)
        tables.append(table)
        proposed += count
    facts = {"photos": len(shard.photos), "proposed": proposed, "seconds": time.perf_counter() - start}
    table = pa.concat_tables(tables).replace_schema_metadata({"facts": json.dumps(facts)})
    partial = path.with_suffix(".partial")
    pq.write_table(table, partial)
    os.replace(partial, path)
    return len(shard.photos)


def _regions(search: _Search, image: int, path: Path, sha256: str) -> tuple[pa.Table, int]:
    """The boxes of one photo, and how many were proposed before the filter."""
    photo = decode(path)
    scale = 1.0 if search.max_side is None else min(1.0, search.max_side / max(photo.size))
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    searched = photo if size == photo.size else photo.resize(size, Image.Resampling.BILINEAR)
    rng = np.random.default_rng([search.seed, int(sha256, 16)])
    boxes, scores = proposals_by_name(search.proposals)(np.asarray(searched), search.mode, rng)
    kept = filter_boxes(
        boxes,
        min_side=search.min_side,
        max_aspect=search.max_aspect,
        max_iou=search.max_iou,
        max_boxes=search.max_boxes,
    )
    if len(kept):
        found, score = to_original(boxes[kept], size, photo.size), scores[kept]
    else:
        found, score = np.array([[0, 0, *photo.size]]), np.array([np.nan], np.float32)
    columns = [np.full(len(found), image), np.arange(len(found)), *found.T, score]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, _SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA), len(boxes)


def to_original(boxes: np.ndarray, searched: tuple[int, int], original: tuple[int, int]) -> np.ndarray:
    """Boxes in a copy of size `searched` (width, height) as boxes of the `original`, rounded outward. (n, 4) int64."""
    width, height = original
    scale_from, scale_to = np.array([*searched, *searched]), np.array([width, height, width, height])
    low, high = boxes * scale_to // scale_from, -(-boxes * scale_to // scale_from)
    return np.hstack([low[:, :2], np.minimum(high[:, 2:], [width, height])])


def _shard_path(scratch: Path, shard: _Shard) -> Path:
    return scratch / f"boxes-{shard.first:09d}.parquet"


def _is_whole(path: Path, shard: _Shard) -> bool:
    with contextlib.suppress(OSError, pa.ArrowException):
        images = pq.read_table(path)["image"].unique().to_pylist()
        return images == [image for image, _, _ in shard.photos]
    return False


def _concatenate(path: Path, shards: Iterable[Path], report: Report) -> None:
    facts = {"photos": 0, "proposed": 0, "seconds": 0.0}
    counts: list[np.ndarray] = []
    waiting: list[pa.Table] = []
    fallbacks = 0
    with pq.ParquetWriter(path, _SCHEMA) as writer:
        for shard in shards:
            table = pq.read_table(shard)
            for name, value in json.loads(table.schema.metadata[b"facts"]).items():
                facts[name] += value
            counts.append(np.unique(table["image"], return_counts=True)[1])
            fallbacks += int(np.isnan(table["score"]).sum())
            waiting.append(table.replace_schema_metadata(None))
            if sum(map(len, waiting)) >= _ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    boxes = np.concatenate(counts)
    report.metric(
        boxes=int(boxes.sum()),
        boxes_per_image_mean=float(boxes.mean()),
        boxes_per_image_min=int(boxes.min()),
        boxes_per_image_max=int(boxes.max()),
        proposals_per_image_mean=facts["proposed"] / facts["photos"],
        fallback_images=fallbacks,
        seconds_per_image=facts["seconds"] / facts["photos"],
    )
    if fallbacks > _MANY_FALLBACKS * len(boxes):
        log.warning(
            "in %d of %d photos no proposal passed the filter, so that the whole photo stands for its objects. "
            "Lower regions.min_side, which is in pixels of the picture that is searched (regions.max_side).",
            fallbacks,
            len(boxes),
        )
