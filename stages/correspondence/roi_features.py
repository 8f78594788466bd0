"""Step `roi_features`: one embedding a box, by the backbone of the trained encoder."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.correspondence.crops import crop_features
from stages.correspondence.feature_file import FeatureFile
from stages.correspondence.feature_maps import agreement, map_features
from stages.correspondence.numbered_engine import NumberedEngine
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog, Roots
from stages.data.mapped import Mapped
from stages.data.photos import Photos
from stages.learning.devices import resolve_device
from stages.learning.encoder import load_encoder
from stages.learning.frozen import Frozen
from stages.learning.unit_half import unit_half
from stages.report import Report
from stages.shards import SHARD, Engine, LocalEngine, Shard, cut, make_shards

FEATURES_FILE = "features.npy"

# A shard ends with a batch that is not full, and costs as much as a full one.
_BATCHES_A_SHARD = 32
# Processes of a cluster that may be at work at once, among which the boxes are shared out: to guess what a process has
# before it, so that only a rough number is needed.
_OF_A_CLUSTER = 256
# Photos whose boxes are embedded in both modes, to measure what feature maps cost.
_COMPARED_PHOTOS = 64


@dataclass(frozen=True)
class _Job:
    """What a process needs to embed any photo's boxes. Two are equal when one network serves both."""

    file: Path
    encoder: Path
    device: str
    local: bool
    precision: str
    compile: bool | None
    expected: int
    mode: str
    size: int
    map_side: int
    batch_size: int
    threads: int
    photos: Photos = field(compare=False)
    boxes: Boxes = field(compare=False)


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    encoder: Path,
    regions: Path,
    size: int,
    mode: str,
    map_side: int,
    precision: str,
    batch_size: int,
    compile: bool | None,
    device: str,
    workers: int,
    engine: Engine,
) -> None:
    """Embeds every box once; each photo is decoded once.

    Writes `features.npy` (boxes, C) float16: global average of the backbone's last feature map, L2-normalised, in the
    order of the boxes of `regions`. With mode "crops" a box is cut out and resized to `size` x `size` pixels (bilinear
    with antialiasing, its aspect ratio not kept), as in the official code, which however does this anew for each photo
    that lists it; with "feature_map" see `feature_maps`, and the metrics `agreement_cosine` and
    `agreement_same_nearest` compare both modes on a few photos.

    Works in shards of photos, which write their rows where they belong and are not made again by a resumed run; on a
    CPU the file is then the same to the bit. Photos are decoded by threads. On one machine a process serves each GPU,
    or one all CPU cores; on a cluster each worker is a process of its own.

    Args:
        encoder, regions: directories of those artifacts.
        precision, compile: see `Frozen`.
        batch_size: crops in one forward pass.
        device: "cuda" for all GPUs of a machine.
        workers: cores for decoding photos, over all processes of this machine.

    Raises:
        ValueError: the boxes are of another catalog.
        UnreadablePhoto: a photo is gone, broken or changed since the catalog was made.
    """
    photos, boxes = Photos(Catalog(catalog, root)), Boxes(regions)
    boxes.check(len(photos))
    local = isinstance(engine, LocalEngine)
    gpus = torch.cuda.device_count() if local and resolve_device(device) == torch.device("cuda") else 0
    if local:
        engine = NumberedEngine(gpus, torch.cuda.set_device) if gpus else LocalEngine(1)
    processes = max(1, gpus) if local else _OF_A_CLUSTER
    job = _Job(
        file=out / FEATURES_FILE, encoder=encoder, device=device, local=local, precision=precision,
        compile=compile if mode == "crops" else False, expected=len(boxes) // processes,
        mode=mode, size=size, map_side=map_side, batch_size=batch_size,
        threads=_threads(workers, gpus) if local else 1, photos=photos, boxes=boxes,
    )  # fmt: skip
    channels = load_encoder(encoder).backbone.channels
    folder = out / "scratch" / "roi_features"
    with FeatureFile(job.file, len(boxes), channels) as file:
        if not file.kept:
            shutil.rmtree(folder, ignore_errors=True)  # says of rows that they are there which are not
    a_photo = max(1.0, len(boxes) / max(1, len(photos)))
    shards = cut(len(photos), folder, ".json", max(SHARD, round(_BATCHES_A_SHARD * batch_size / a_photo)))
    try:
        make_shards(partial(_make, job), shards, engine, report)
        if mode == "feature_map":
            _compare(job, report)
    finally:
        _network.cache_clear()
    seconds = sum(json.loads(shard.path.read_text())["seconds"] for shard in shards)
    report.metric(
        boxes=len(boxes),
        channels=channels,
        bytes_per_image=job.file.stat().st_size / len(photos),
        seconds_per_box=seconds / len(boxes),
        seconds_per_image=seconds / len(photos),
    )


def _threads(workers: int, gpus: int) -> int:
    """Threads that decode for one process. A CPU that also embeds needs but a few: an eighth of its cores keeps up."""
    return max(1, workers // (gpus or 8))


def _make(job: _Job, shard: Shard, path: Path) -> None:
    """Writes the rows of the photos of `shard`, then to `path` what that took."""
    start = time.perf_counter()
    first, last = job.boxes.starts[[shard.first, shard.last]].tolist()
    with FeatureFile(job.file, len(job.boxes), _network(job).channels) as file:
        row = first
        for features in _one_late(_features(job, job.mode, range(shard.first, shard.last))):
            rows = unit_half(features)
            file.write(row, rows)
            row += len(rows)
        file.sync()
    path.write_text(json.dumps({"boxes": last - first, "seconds": time.perf_counter() - start}))


@lru_cache(maxsize=1)
def _network(job: _Job) -> Frozen:
    """Loaded once in a process, whatever shards it gets."""
    device = resolve_device(job.device)
    if not job.local and device == torch.device("cuda"):  # the workers of a machine spread over its GPUs
        torch.cuda.set_device(os.getpid() % torch.cuda.device_count())
    encoder = load_encoder(job.encoder)
    return Frozen(encoder, device, precision=job.precision, compile=job.compile, expected=job.expected)


def _features(job: _Job, mode: str, images: Iterable[int]) -> Iterator[Tensor]:
    """The features of all boxes of `images`, in order, some rows at a time."""
    network = _network(job)
    if mode == "feature_map":
        return map_features(network, job.photos, job.boxes, images, side=job.map_side, threads=job.threads)
    settings = {"size": job.size, "batch_size": job.batch_size, "threads": job.threads}
    return crop_features(network, job.photos, job.boxes, images, **settings)


def _one_late(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """Each batch after the next one was begun: a GPU works on that while the first is fetched and written."""
    former: Tensor | None = None
    for batch in batches:
        if former is not None:
            yield former
        former = batch
    if former is not None:
        yield former


def _compare(job: _Job, report: Report) -> None:
    """Reports how far the features of some photos' boxes agree with those of their crops."""
    images = np.unique(np.linspace(0, len(job.photos) - 1, _COMPARED_PHOTOS).astype(int)).tolist()
    if len(images) < 2:
        return
    stored = Mapped(job.file).array
    maps = np.concatenate([stored[slice(*job.boxes.starts[[image, image + 1]])] for image in images])
    crops = np.concatenate([unit_half(features) for features in _features(job, "crops", images)])
    cosine, same = agreement(crops, maps, np.repeat(images, [len(job.boxes.of(image)) for image in images]))
    report.metric(agreement_cosine=cosine, agreement_same_nearest=same)
