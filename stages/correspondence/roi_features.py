"""Step `roi_features`: one embedding a box, by the backbone of the trained encoder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages.correspondence.feature_file import FeatureFile
from stages.data.catalog import Catalog
from stages.learning.devices import resolve_device
from stages.learning.encoder import load_encoder
from stages.learning.unit_half import unit_half
from stages.process import init_worker
from stages.report import Report

FEATURES_FILE = "features.npy"

_SECONDS_BETWEEN_CHECKPOINTS = 20.0


@torch.inference_mode()
def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Path,
    encoder: Path,
    regions: Path,
    size: int,
    batch_size: int,
    device: str,
    workers: int,
) -> None:
    """Embeds every box once; each photo is decoded once.

    Writes `features.npy` (boxes, C) float16: global average of the backbone's last feature map, L2-normalised, in the
    order of `boxes.parquet`. A box is cut out and resized to `size` x `size` pixels (bilinear with antialiasing, its
    aspect ratio not kept), as in the official code, which however does this anew for each photo that lists it.

    Batches are filled across photos, so memory and speed do not depend on how many boxes a photo has. Resumes an
    interrupted run at the start of a batch, so that the result is the same to the bit.

    Args:
        encoder, regions: directories with `encoder.safetensors` and `boxes.parquet`.
        batch_size: crops in one forward pass.
    """
    photos = Catalog(catalog, root)
    boxes = pd.read_parquet(regions / "boxes.parquet", columns=["image", "x0", "y0", "x1", "y1"])
    images, corners = boxes["image"].to_numpy(), boxes[["x0", "y0", "x1", "y1"]].to_numpy()
    where = resolve_device(device)
    backbone = load_encoder(encoder).to(where).eval()
    (out / "scratch").mkdir(exist_ok=True)
    progress = out / "scratch" / "features.json"

    with FeatureFile(out / FEATURES_FILE, progress, len(boxes), backbone.backbone.channels) as file:
        first, start = file.done, time.perf_counter()
        last_checkpoint = start
        for crops in _batches(photos, images, corners, first, size=size, batch_size=batch_size, workers=workers):
            file.append(unit_half(backbone.features(crops.to(where, non_blocking=True))))
            report.progress(file.done, len(boxes), "boxes")
            if time.perf_counter() - last_checkpoint > _SECONDS_BETWEEN_CHECKPOINTS:
                file.checkpoint()
                last_checkpoint = time.perf_counter()
        file.checkpoint()
        if file.done != len(boxes):
            raise RuntimeError(f"{file.done} boxes came where {len(boxes)} were due: a loader dropped or repeated some")
    report.metric(boxes=len(boxes), channels=backbone.backbone.channels)
    if first < len(boxes):
        per_box = (time.perf_counter() - start) / (len(boxes) - first)
        report.metric(seconds_per_box=per_box, seconds_per_image=per_box * len(boxes) / len(photos))


def _batches(
    photos: Catalog, images: np.ndarray, corners: np.ndarray, first: int, *, size: int, batch_size: int, workers: int
) -> Iterator[Tensor]:
    """The crops of the boxes from number `first` on, (B, 3, size, size) uint8; every B but the last is `batch_size`."""
    dataset = _Crops(photos, images[first:], corners[first:], size)
    loader = DataLoader(
        dataset,
        batch_size=None,  # an item is already a stack: all boxes of a photo
        num_workers=workers,
        worker_init_fn=init_worker if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
    waiting: list[Tensor] = []
    for crops in loader:
        waiting.append(crops)
        if sum(map(len, waiting)) >= batch_size:
            *full, rest = torch.cat(waiting).split(batch_size)
            if len(rest) == batch_size:
                full, rest = [*full, rest], rest[:0]
            yield from full
            waiting = [rest.clone()] if len(rest) else []
    if waiting:
        yield torch.cat(waiting)


class _Crops(Dataset):
    """Item i: the boxes of the i-th photo that has any, cut out and resized, (n, 3, size, size) uint8 RGB."""

    def __init__(self, photos: Catalog, images: np.ndarray, corners: np.ndarray, size: int) -> None:
        """images: (n,) photo of each box, ascending. corners: (n, 4) x0, y0, x1, y1."""
        self._photos, self._size, self._corners = photos, size, corners
        self._images, starts = np.unique(images, return_index=True)
        self._starts = np.append(starts, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        photo = self._photos.decode(int(self._images[index]))
        corners = self._corners[self._starts[index] : self._starts[index + 1]]
        crops = np.empty((len(corners), self._size, self._size, 3), np.uint8)
        for crop, box in zip(crops, corners.tolist(), strict=True):
            crop[:] = np.asarray(photo.crop(box).resize((self._size, self._size), Image.Resampling.BILINEAR))
        return torch.from_numpy(crops).permute(0, 3, 1, 2)
