"""One embedding a photo: the projections of a whole, centre-cropped picture."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from pathlib import Path

import numpy as np
import torch

from stages.data.catalog import Catalog
from stages.data.loading import photo_loader
from stages.data.rows import Rows
from stages.learning.encoder import load_encoder
from stages.learning.frozen import Frozen
from stages.learning.unit_half import unit_half
from stages.report import Report

# Below this share of the spread of evenly distributed embeddings, neighbours say next to nothing.
_COLLAPSED = 0.05
_SECONDS_BETWEEN_CHECKPOINTS = 20.0
_BLOCK = 16384  # rows

log = logging.getLogger(__name__)


def embed_photos(
    photos: Catalog,
    encoder: Path,
    path: Path,
    scratch: Path,
    report: Report,
    *,
    resize: int,
    crop: int,
    precision: str,
    batch_size: int,
    compile: bool | None,
    device: torch.device,
    workers: int,
) -> None:
    """Writes (N, D) float16 to `path`: the L2-normalised projections of all photos, in the order of the catalog.

    Goes on where an interrupted run was: `scratch`, a folder, keeps how many rows are safely in the file.

    Reports `embedding_std`, the standard deviation of an entry over the photos, averaged over the D entries, and
    `embedding_std_even` = 1 / sqrt(D), which it would be if embeddings pointed in all directions evenly. 0 means that
    all photos look the same to the encoder (BYOL's collapse).
    """
    network = load_encoder(encoder)
    progress = scratch / "embedded.json"
    done = _rows_done(path, progress, (len(photos), network.dim))
    if not done:
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(photos), network.dim))
    if done < len(photos):
        frozen = Frozen(network, device, precision=precision, compile=compile, expected=len(photos) - done)
        loader = photo_loader(
            photos, resize=resize, crop=crop, batch_size=batch_size, workers=workers, first=done
        )  # fmt: skip
        size = 2 * network.dim
        begin = path.stat().st_size - len(photos) * size
        # Written, not mapped: mapped pages of a large file would count as this process's memory.
        with path.open("r+b") as file:
            saved = time.monotonic()
            for numbers, images in loader:
                first = int(numbers[0])
                if first != done or len(numbers) != int(numbers[-1]) - first + 1:
                    raise RuntimeError(f"photo {first} came where {done} was due: the loader dropped or repeated some")
                file.seek(begin + first * size)
                file.write(unit_half(frozen.project(images)).data)
                done += len(numbers)
                report.progress(done, len(photos), "photos")
                if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS or done == len(photos):
                    _checkpoint(file.fileno(), progress, done)
                    saved = time.monotonic()
    _report_spread(Rows(path), report)


def _rows_done(path: Path, progress: Path, shape: tuple[int, int]) -> int:
    """The rows that a former run has left in the file; 0 if they are not of this shape."""
    try:
        done = int(json.loads(progress.read_text())["rows"])
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError):
        return 0
    return done if rows.shape == shape and rows.dtype == np.float16 and 0 <= done <= len(rows) else 0


def _checkpoint(file: int, progress: Path, done: int) -> None:
    os.fsync(file)
    partial = progress.with_suffix(".partial")
    partial.write_text(json.dumps({"rows": done}))
    os.replace(partial, progress)


def _report_spread(rows: Rows, report: Report) -> None:
    count, dim = rows.array.shape
    total, squares = np.zeros(dim), np.zeros(dim)
    for first in range(0, count, _BLOCK):
        block = torch.from_numpy(np.array(rows.block(first, min(first + _BLOCK, count)))).double()
        total += block.sum(dim=0).numpy()
        squares += block.square().sum(dim=0).numpy()
    variance = squares / count - np.square(total / count)
    std, even = float(np.sqrt(np.maximum(variance, 0)).mean()), 1 / math.sqrt(dim)
    report.metric(embedding_std=std, embedding_std_even=even)
    if std < _COLLAPSED * even:
        log.warning(
            "all photos look nearly alike to this encoder (spread of the embeddings %.5f; %.5f if even), so their "
            "neighbours mean little. The encoder has collapsed, or was hardly trained.",
            std,
            even,
        )
