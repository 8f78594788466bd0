"""Step `regions`: the boxes of each photo that may hold an object. Needs no network, so it may run beside stage 1
(but for the proposals `learned`, which come from its encoder)."""

from __future__ import annotations

import functools
import logging
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.correspondence.box_quality import COLUMNS, BoxQuality, objects_by_photo
from stages.correspondence.filter import filter_boxes
from stages.correspondence.proposals import Propose, make_proposals
from stages.correspondence.saliency import mean_saliency, saliency_map
from stages.correspondence.searched import open_searched, searched_size, to_original
from stages.data.boxes import BoxesWriter
from stages.data.catalog import Catalog, Roots
from stages.report import Report
from stages.shards import SHARD, Engine, Shard, cut, make_shards

_SMALLEST_SHARD = 16  # photos; what an interruption costs each worker, against the writing of a file
_SHARDS = 64  # of a small data set, so that all workers have some
_MANY_FALLBACKS = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Search:
    """What a worker needs to know. Hashable, so that it opens the catalog and loads a network once."""

    catalog: Path
    root: Path | tuple[Path, ...]
    proposals: str
    options: tuple[tuple[str, Any], ...]
    encoder: Path | None
    device: str
    max_side: int | None
    max_pixels: int
    min_side: int
    max_aspect: float
    max_iou: float
    max_boxes: int
    min_saliency: float | None
    seed: int


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    proposals: str,
    options: Mapping[str, Any],
    encoder: Path | None,
    max_side: int | None,
    max_pixels: int,
    min_side: int,
    max_aspect: float,
    max_iou: float,
    max_boxes: int,
    min_saliency: float | None,
    seed: int,
    device: str,
    workers: int,
    engine: Engine,
) -> None:
    """Proposes boxes in every photo and keeps those that pass ORL's filter.

    Writes `boxes.parquet`, `corners.npy` and `starts.npy`, see `stages.data.boxes.BoxesWriter`. Every photo
    has a box: where none passes the filter, the whole photo, with the score NaN. (The official code then takes a random
    low-level segment, often a few pixels wide.) Where the catalog has labels, the metrics say how well the boxes cover
    the objects, see `stages.correspondence.box_quality`.

    Resumes an interrupted run from the shards in `out/scratch`, which belong to the same settings as `out` does.

    Args:
        proposals, options: the algorithm and its settings, see `stages.correspondence.proposals`.
        encoder, device: directory of the stage-1 encoder and where it runs, for the proposals `learned` alone.
        max_side: the search sees a copy whose longer side is at most this many pixels; None for the photo as it is.
        max_pixels: and a copy of at most about so many pixels, so that its memory is bounded.
        min_side: least side of a box, in pixels of the picture *that is searched*, so lower it along with `max_side`.
        max_aspect, max_iou, max_boxes: see `stages.correspondence.filter.filter_boxes`.
        min_saliency: boxes whose mean saliency is less are dropped before that filter, so that none of them stands in
            for a better one; see `stages.correspondence.saliency`. None for no such limit, as in ORL.
        seed: with the photo's content, decides the order of proposals that have no order of their own.
        workers: of `engine`, where it is this machine.

    Raises:
        ValueError, FileNotFoundError: the proposals lack what they need (models, labels, an encoder).
        UnreadablePhoto: a photo has changed since the catalog was made.
    """
    places = root if isinstance(root, str | Path) else tuple(root)
    settings = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in options.items())
    search = _Search(
        catalog, places, proposals, settings, encoder, device, max_side, max_pixels, min_side, max_aspect, max_iou,
        max_boxes, min_saliency, seed,
    )  # fmt: skip
    photos = len(Catalog(catalog, root))
    size = min(SHARD, max(_SMALLEST_SHARD, photos // _SHARDS))
    shards = cut(photos, out / "scratch", ".npz", size)
    make_shards(functools.partial(_make, search), shards, engine, report)
    _concatenate(out, shards, report)


@functools.lru_cache(maxsize=1)
def _tools(search: _Search) -> tuple[Catalog, Propose]:
    catalog = Catalog(search.catalog, search.root)
    propose = make_proposals(
        search.proposals, catalog=catalog, encoder=search.encoder, device=search.device, **dict(search.options)
    )
    return catalog, propose


def _make(search: _Search, shard: Shard, path: Path) -> None:
    """The shard's boxes, and what the metrics are made of."""
    catalog, propose = _tools(search)
    quality, objects = BoxQuality(), None
    if catalog.has_labels:
        labels = catalog.labels_of(shard.first, shard.last, COLUMNS)
        objects = objects_by_photo(labels, shard.first, shard.last)
    found, proposed, start = [], 0, time.perf_counter()
    for image in range(shard.first, shard.last):
        corners, scores, count = _regions(search, catalog, propose, image)
        found.append((corners, scores))
        proposed += count
        if objects is not None:
            quality.add(objects[image - shard.first], corners)
    seconds = time.perf_counter() - start
    with path.open("wb") as file:  # given a path, NumPy would add a suffix
        np.savez(
            file, counts=[len(scores) for _, scores in found],
            corners=np.concatenate([corners for corners, _ in found]).astype(np.int32),
            scores=np.concatenate([scores for _, scores in found]), proposed=proposed, seconds=seconds,
            objects=quality.objects, found=quality.found, overlap=quality.overlap,
        )  # fmt: skip


def _regions(search: _Search, catalog: Catalog, propose: Propose, image: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The boxes of one photo (m, 4) int64, their scores (m,) float32, and how many were proposed before the filter."""
    width, height = catalog.sizes[image].tolist()
    size = searched_size((width, height), search.max_side, search.max_pixels)
    photo = open_searched(catalog, image, size)
    boxes, scores, proposed = np.empty((0, 4), np.int64), np.empty(0, np.float32), 0
    if min(size) >= search.min_side:  # or no box could pass
        rng = np.random.default_rng([search.seed, int(catalog.sha256(image), 16)])
        boxes, scores = propose(photo, image, rng)
        proposed = len(boxes)
    if search.min_saliency is not None and len(boxes):
        salient = mean_saliency(saliency_map(photo), boxes) >= search.min_saliency
        boxes, scores = boxes[salient], scores[salient]
    kept = filter_boxes(
        boxes,
        min_side=search.min_side,
        max_aspect=search.max_aspect,
        max_iou=search.max_iou,
        max_boxes=search.max_boxes,
    )
    if len(kept):
        return to_original(boxes[kept], size, (width, height)), scores[kept], proposed
    return np.array([[0, 0, width, height]]), np.array([np.nan], np.float32), proposed


def _concatenate(out: Path, shards: Sequence[Shard], report: Report) -> None:
    """One shard at a time, so that memory does not grow with their number."""
    quality = BoxQuality()
    photos = boxes = proposed = fallbacks = most = 0
    least, seconds = np.inf, 0.0
    with BoxesWriter(out) as writer:
        for shard in shards:
            made = _read(shard.path)
            writer.append(made["counts"], made["corners"], made["scores"])
            photos, boxes = photos + len(made["counts"]), boxes + len(made["corners"])
            least, most = min(least, made["counts"].min()), max(most, made["counts"].max())
            fallbacks += int(np.isnan(made["scores"]).sum())
            proposed, seconds = proposed + int(made["proposed"]), seconds + float(made["seconds"])
            quality += BoxQuality(int(made["objects"]), made["found"], made["overlap"])
    report.metric(
        boxes=boxes,
        boxes_per_image_mean=boxes / photos,
        boxes_per_image_min=int(least),
        boxes_per_image_max=int(most),
        proposals_per_image_mean=proposed / photos,
        fallback_images=fallbacks,
        seconds_per_image=seconds / photos,
    )
    if quality.objects:
        report.metric(**quality.metrics())
    if fallbacks > _MANY_FALLBACKS * photos:
        log.warning(
            "in %d of %d photos no proposal passed the filter, so that the whole photo stands for its objects. "
            "Lower regions.min_side, which is in pixels of the picture that is searched (regions.max_side).",
            fallbacks,
            photos,
        )


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error}). Delete that file and run again: the others stay.") from error
