"""Features of boxes, each cut out and resized by itself, as in the official ORL code: exact, one forward pass a box.

A photo is decoded once and all its boxes are cut from it: by threads on a CPU, since neither decoding nor resizing
holds Python's lock; on a GPU there, the photo going over once. Batches are filled across photos, so speed does not
depend on how many boxes a photo has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.data.boxes import Boxes
from stages.data.photos import Photos
from stages.learning.frozen import Frozen
from stages.process import ordered_map


def crop_features(
    network: Frozen, photos: Photos, boxes: Boxes, images: Iterable[int], *, size: int, batch_size: int, threads: int
) -> Iterator[Tensor]:
    """Yields the features of all boxes of `images`, in order: (n, C) float32 on the network's device, not normalised.

    Args:
        images: photo numbers.
        size: side to which a box is resized, whatever its aspect ratio.
        batch_size: crops in one forward pass; only the last has fewer.
        threads: decode photos ahead of the network.

    Raises:
        UnreadablePhoto: a photo is gone, broken or changed since the catalog was made.
    """
    on_gpu = network.device.type == "cuda"
    read = partial(_pixels, photos) if on_gpu else partial(_crops, photos, boxes, size)
    images = [image for image in images if len(boxes.of(image))]
    with ThreadPoolExecutor(threads) as pool:
        stacks: Iterator[Tensor] = ordered_map(pool, read, images, window=2 * threads)
        if on_gpu:
            moved = (pixels.to(network.device, non_blocking=True) for pixels in stacks)
            stacks = (
                cut_on_device(pixels, boxes.of(image), size, size) for image, pixels in zip(images, moved, strict=True)
            )
        yield from map(network.features, refilled(stacks, batch_size))


def _pixels(photos: Photos, image: int) -> Tensor:
    return torch.from_numpy(photos.open(image).pixels)


def _crops(photos: Photos, boxes: Boxes, size: int, image: int) -> Tensor:
    return cut(photos.open(image).pixels, boxes.of(image), size, size)


def cut(photo: np.ndarray, boxes: np.ndarray, width: int, height: int) -> Tensor:
    """Each box, cut out and resized (bilinear with antialiasing), with the very pixels of PIL: see `resample`.

    Args:
        photo: (H, W, 3) uint8 RGB.
        boxes: (n, 4) int, x0, y0, x1, y1, half-open, within the photo.

    Returns:
        (n, 3, height, width) uint8, channels last in memory.
    """
    from stages.correspondence import resample  # compiled when it is first needed, not by whoever imports this module

    columns = resample.by_columns(photo)
    crops = np.empty((len(boxes), height, width, 3), np.uint8)
    for crop, (x0, y0, x1, y1) in zip(crops, boxes.tolist(), strict=True):
        resample.resized(columns, (x0, y0, x1, y1), crop)
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def cut_on_device(photo: Tensor, boxes: np.ndarray, width: int, height: int) -> Tensor:
    """`cut` where the photo is; pixels differ by a level or two, and hardly ever.

    Columns first, then rounded to whole levels, then rows, as PIL does: in one step single pixels would differ by more.

    Args:
        photo: (H, W, 3) uint8 RGB.
        boxes: in the host's memory, so that nothing waits for the device.
    """
    planes = photo.permute(2, 0, 1)[None].float()  # (1, 3, H, W)
    crops = []
    for x0, y0, x1, y1 in boxes.tolist():
        box = planes[:, :, y0:y1, x0:x1]
        box = F.interpolate(box, (y1 - y0, width), mode="bilinear", antialias=True).add_(0.5).floor_()
        crops.append(F.interpolate(box, (height, width), mode="bilinear", antialias=True))
    levels = torch.cat(crops).add_(0.5).to(torch.uint8)
    return levels.contiguous(memory_format=torch.channels_last)


def refilled(stacks: Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """The rows of `stacks` in order, `batch_size` at a time; the last ones may be fewer."""
    waiting: list[Tensor] = []
    count = 0
    for stack in stacks:
        for part in _cut_at(stack, batch_size - count, batch_size):
            waiting.append(part)
            count += len(part)
            if count == batch_size:
                yield torch.cat(waiting)
                waiting, count = [], 0
    if waiting:
        yield torch.cat(waiting)


def _cut_at(stack: Tensor, first: int, size: int) -> Iterator[Tensor]:
    """The first `first` rows of `stack`, then `size` at a time."""
    yield stack[:first]
    if len(stack) > first:
        yield from stack[first:].split(size)
