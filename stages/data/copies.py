"""Step `copies`: every photo of a catalog as a small JPEG, all in one file; and the reader of that file.

Decoding takes most of the time that a photo costs a data worker, and grows with its pixels: a copy of 341 x 256 is
decoded about three times as fast as a photo of 640 x 480. One large file also spares a slow file system the opening of
many small ones.
"""

from __future__ import annotations

import functools
import io
import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from stages.data.catalog import Catalog, Roots
from stages.data.unreadable import check_size, reading
from stages.process import ordered_map, pool
from stages.report import Report

PHOTOS_FILE = "photos.jpegs"
OFFSETS_FILE = "offsets.npy"

_SHARD = 32  # photos that a worker copies at a time
_SHARDS_BETWEEN_CHECKPOINTS = 64


class Copies:
    """The `copies` artifact in `directory`. Pickles as its path; each process opens the files for itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)

    def __getstate__(self) -> dict[str, Path]:
        return {"directory": self.directory}

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def jpeg(self, image: int) -> bytes:
        """The copy of photo `image` as a JPEG file."""
        start, end = self._offsets[image : image + 2].tolist()
        return os.pread(self._file.fileno(), end - start, start)

    def pixels(self, image: int) -> np.ndarray:
        """The copy of photo `image`: (H, W, 3) uint8 RGB, upright, contiguous.

        Raises:
            OSError, ValueError: the file is gone or damaged.
        """
        return simplejpeg.decode_jpeg(self.jpeg(image))

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.load(self.directory / OFFSETS_FILE, mmap_mode="r")  # mapped, so that all processes share one

    @cached_property
    def _file(self) -> io.FileIO:
        # Read, not mapped: the pages of a mapped file of many gigabytes would count as this process's memory.
        return (self.directory / PHOTOS_FILE).open("rb", buffering=0)


def run(*, out: Path, report: Report, catalog: Path, root: Roots, side: int, quality: int, workers: int) -> None:
    """Writes `photos.jpegs`, the copies laid end to end, and `offsets.npy` (N + 1,) int64.

    Copy i is bytes offsets[i] to offsets[i + 1]: upright RGB, resized with antialiasing (PIL, bicubic), colours at half
    the resolution as in most JPEGs. An interrupted run goes on from its last checkpoint. Beyond the offsets, memory
    does not grow with the number of photos.

    Args:
        catalog, root: directory of a `catalog` artifact; its paths start from `root`.
        side: length of a copy's shorter side in pixels; a photo whose shorter side has fewer keeps its size.
        quality: of the JPEGs, 1 to 95.

    Raises:
        UnreadablePhoto: a photo is gone, broken or changed since the catalog was made.
    """
    photos = Catalog(catalog, root)
    progress = out / "scratch" / OFFSETS_FILE
    progress.parent.mkdir(exist_ok=True)
    offsets = np.zeros(len(photos) + 1, np.int64)
    done = _resume(progress, out / PHOTOS_FILE, offsets)
    shards = (range(first, min(first + _SHARD, len(photos))) for first in range(done, len(photos), _SHARD))
    copy = functools.partial(_copies, photos, side, quality)
    with (out / PHOTOS_FILE).open("ab") as file, pool(min(workers, -(-len(photos) // _SHARD))) as processes:
        file.truncate(int(offsets[done]))
        for number, jpegs in enumerate(ordered_map(processes, copy, shards, window=4 * max(1, workers)), 1):
            file.writelines(jpegs)
            offsets[done + 1 : done + 1 + len(jpegs)] = offsets[done] + np.cumsum([len(jpeg) for jpeg in jpegs])
            done += len(jpegs)
            if number % _SHARDS_BETWEEN_CHECKPOINTS == 0:
                file.flush()
                os.fsync(file.fileno())
                _save(progress, offsets[: done + 1])
            report.progress(done, len(photos), "photos")
    _save(out / OFFSETS_FILE, offsets)
    report.metric(photos=len(photos), bytes=int(offsets[-1]), bytes_per_photo=float(offsets[-1] / max(1, len(photos))))


def _copies(photos: Catalog, side: int, quality: int, images: range) -> list[bytes]:
    return [_copy(photos, side, quality, image) for image in images]


def _copy(photos: Catalog, side: int, quality: int, image: int) -> bytes:
    size = tuple(photos.sizes[image].tolist())
    with reading(photos, image):
        photo = photos.decode(image)
    check_size(photos, image, photo.size, size)
    scale = side / min(size)
    if scale < 1:
        photo = photo.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BICUBIC)
    jpeg = io.BytesIO()
    photo.save(jpeg, "JPEG", quality=quality, subsampling="4:2:0")
    return jpeg.getvalue()


def _resume(progress: Path, file: Path, offsets: np.ndarray) -> int:
    """Fills in the offsets of the copies that a former attempt has safely written; returns how many these are."""
    with suppress(OSError, ValueError, EOFError):
        former = np.load(progress)
        if 1 <= len(former) <= len(offsets) and file.stat().st_size >= former[-1]:
            offsets[: len(former)] = former
            return len(former) - 1
    return 0


def _save(path: Path, offsets: np.ndarray) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, offsets)
    os.replace(partial, path)
