"""The detections of all test photos, as a table: `detections.parquet`.

    image     int32, the photo's number in the test catalog
    category  int32, of the test catalog
    score     float32, in 0..1; within a photo rows are sorted by it
    x0, y0, x1, y1  float32, in pixels of the photo
    mask      of detectors with masks: pycocotools' run lengths (its compressed `counts`) at the photo's size

Photos go one by one, as in Detectron2: a batch would pad them, and what a detector sees in a photo would depend on its
neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pycocotools import mask as run_lengths
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from stages.data.catalog import Catalog
from stages.data.workers import make_loader
from stages.evaluation.tasks.detection.detectors import Detector
from stages.evaluation.tasks.detection.photos import TestPhotos
from stages.learning.distributed import any_process, rank, world_size
from stages.report import Report
from stages.shards import Shard, cut

DETECTIONS_FILE = "detections.parquet"
_SIDES = ("x0", "y0", "x1", "y1")
_INSIDE = 0.5  # probability from which on a pixel belongs to a mask


def detect_photos(
    detector: Detector,
    catalog: Catalog,
    *,
    out: Path,
    report: Report,
    short_side: int,
    longest: int,
    masks: bool,
    workers: int,
) -> Path:
    """Writes `out/detections.parquet` and returns its path. Goes on where an interrupted call was, shard by shard.

    Of W processes, each takes every W-th shard; the first one puts them together.

    Args:
        detector: on the device to use.
        short_side, longest: see `photos.scaled_size`.
        workers: processes that decode photos; 0 does it in this one.
    """
    path = out / DETECTIONS_FILE
    shards = cut(len(catalog), out / "scratch" / "detections", ".parquet")
    schema = _schema(masks)
    if not path.exists():
        mine = [shard for shard in shards[rank() :: world_size()] if not shard.path.exists()]
        _detect_shards(detector.eval(), catalog, mine, schema, report, short_side, longest, workers)
        any_process(False)  # waits until the others are done
        if rank() == 0:
            _join(shards, schema, path)
    any_process(False)
    return path


def _detect_shards(
    detector: Detector,
    catalog: Catalog,
    shards: list[Shard],
    schema: pa.Schema,
    report: Report,
    short_side: int,
    longest: int,
    workers: int,
) -> None:
    images = [image for shard in shards for image in range(shard.first, shard.last)]
    photos = TestPhotos(catalog, short_side=short_side, longest=longest)
    loader = iter(make_loader(photos, workers, sampler=images, batch_size=None))
    device = next(detector.parameters()).device
    done = 0
    for shard in shards:
        tables = [pa.Table.from_pylist([], schema)]
        for _ in range(shard.first, shard.last):
            image, pixels = next(loader)
            found = {name: each.cpu() for name, each in detector.detect(pixels.to(device)).items()}
            size = catalog.sizes[int(image)].tolist()
            tables.append(pa.table(_columns(int(image), found, size, (pixels.shape[2], pixels.shape[1])), schema))
            done += 1
            report.progress(done, len(images), "photos")
        draft = shard.path.with_suffix(".draft")
        pq.write_table(pa.concat_tables(tables), draft)
        os.replace(draft, shard.path)


def _columns(image: int, found: dict[str, Tensor], size: list[int], shown: tuple[int, int]) -> dict[str, Any]:
    """The detections of a photo of `size` that was shown at the size `shown`, both (width, height)."""
    scale = torch.tensor([size[0] / shown[0], size[1] / shown[1]]).repeat(2)
    limits = torch.tensor(size, dtype=torch.float32).repeat(2)
    boxes = (found["boxes"] * scale).clamp(min=torch.zeros(4), max=limits)
    columns: dict[str, Any] = {
        "image": np.full(len(boxes), image, np.int32),
        "category": found["labels"].numpy().astype(np.int32),
        "score": found["scores"].numpy(),
    }
    columns |= {side: boxes[:, i].numpy() for i, side in enumerate(_SIDES)}
    if "masks" in found:
        columns["mask"] = list(_coded(found["masks"], boxes, size))
    return columns


def _coded(masks: Tensor, boxes: Tensor, size: list[int]) -> Iterator[bytes]:
    """The masks of boxes in a photo of `size` (width, height); one at a time, as 100 of a large photo are gigabytes."""
    for mask, box in zip(masks, boxes, strict=True):
        whole = paste_masks_in_image(mask[None], box[None], (size[1], size[0]))[0, 0] > _INSIDE
        yield run_lengths.encode(np.asfortranarray(whole.numpy().astype(np.uint8)))["counts"]


def _schema(masks: bool) -> pa.Schema:
    numbers = [("image", pa.int32()), ("category", pa.int32()), ("score", pa.float32())]
    return pa.schema(numbers + [(side, pa.float32()) for side in _SIDES] + ([("mask", pa.binary())] if masks else []))


def _join(shards: list[Shard], schema: pa.Schema, path: Path) -> None:
    draft = path.with_suffix(".draft")
    with pq.ParquetWriter(draft, schema) as writer:
        for shard in shards:
            writer.write_table(pq.read_table(shard.path))
    os.replace(draft, path)


def read_detections(path: Path) -> pd.DataFrame:
    """The table at `path`. With masks about 20 kB a photo (100 detections)."""
    return pd.read_parquet(path)
