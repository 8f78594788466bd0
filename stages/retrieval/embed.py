"""One embedding a photo: the projections of a whole, centre-cropped picture."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import torch

from stages.data.catalog import Catalog
from stages.data.loading import photo_loader
from stages.learning.encoder import load_encoder
from stages.learning.unit_half import unit_half
from stages.report import Report

# Below this share of the spread of evenly distributed embeddings, neighbours say next to nothing.
_COLLAPSED = 0.05

log = logging.getLogger(__name__)


@torch.inference_mode()
def embed_photos(
    photos: Catalog,
    encoder: Path,
    path: Path,
    report: Report,
    *,
    resize: int,
    crop: int,
    batch_size: int,
    device: torch.device,
    workers: int,
) -> None:
    """Writes (N, D) float16 to `path`: the L2-normalised projections of all photos, in the order of the catalog.

    Reports `embedding_std`, the standard deviation of an entry over the photos, averaged over the D entries, and
    `embedding_std_even` = 1 / sqrt(D), which it would be if embeddings pointed in all directions evenly. 0 means that
    all photos look the same to the encoder (BYOL's collapse).
    """
    network = load_encoder(encoder).to(device).eval()
    dim = int(network.settings["projector_out"])
    # The file is filled in place and its pages can be written out and dropped: memory does not grow with N.
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(photos), dim))
    total, squares = np.zeros(dim), np.zeros(dim)
    done = 0
    for numbers, images in photo_loader(photos, resize=resize, crop=crop, batch_size=batch_size, workers=workers):
        embeddings = unit_half(network(images.to(device, non_blocking=True)))
        rows[numbers.numpy()] = embeddings
        total += embeddings.sum(axis=0, dtype=np.float64)
        squares += np.square(embeddings, dtype=np.float64).sum(axis=0)
        done += len(numbers)
        report.progress(done, len(photos), "photos")
    if done != len(photos):
        raise RuntimeError(f"{done} photos came where {len(photos)} were due: the loader dropped or repeated some")
    rows.flush()

    variance = squares / done - np.square(total / done)
    std, even = float(np.sqrt(np.maximum(variance, 0)).mean()), 1 / math.sqrt(dim)
    report.metric(embedding_std=std, embedding_std_even=even)
    if std < _COLLAPSED * even:
        log.warning(
            "all photos look nearly alike to this encoder (spread of the embeddings %.5f; %.5f if even), so their "
            "neighbours mean little. The encoder has collapsed, or was hardly trained.",
            std,
            even,
        )
