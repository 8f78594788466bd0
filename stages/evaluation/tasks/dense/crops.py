"""Random crops of photos together with their maps of pixels: random scale, crop and flip, as plain numbers first.

As for the views of pretraining, what is cut is drawn from (seed, epoch, photo) alone, and pixels are touched last:
only the window that is shown is resized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.data.masks.segmentation import enlarged
from stages.learning.backbones import IMAGENET_MEAN

# Pixels around a photo that is smaller than its crop: ImageNet's mean, 0 once normalised.
FILL = tuple(round(255 * mean) for mean in IMAGENET_MEAN)


@dataclass(frozen=True, slots=True)
class Crop:
    """`window` of a photo (x0, y0, x1, y1; whole pixels) becomes `width` x `height` pixels, mirrored if `flip`."""

    window: tuple[int, int, int, int]
    width: int
    height: int
    flip: bool


def draw_crop(rng: np.random.Generator, size: tuple[int, int], *, side: int, scales: tuple[float, float]) -> Crop:
    """Scales the photo by a factor uniform in `scales`, cuts a square of `side` pixels anywhere and flips it half of
    the time (BYOL, arXiv:2006.07733, appendix D.4; MoCo, arXiv:1911.05722, appendix).

    Where the scaled photo is shorter than `side`, the crop shows all of it and is smaller: see `padded`.

    Args:
        size: of the photo, width and height.
    """
    scale, left, top, flip = rng.random(4).tolist()
    scale = scales[0] + scale * (scales[1] - scales[0])
    x0, x1, width = _span(size[0], side, scale, left)
    y0, y1, height = _span(size[1], side, scale, top)
    return Crop((x0, y0, x1, y1), width, height, flip < 0.5)


def _span(length: int, side: int, scale: float, place: float) -> tuple[int, int, int]:
    """First and last (exclusive) pixel along one axis, and how many pixels they become."""
    shown = min(side, max(1, round(length * scale)))
    cut = min(length, max(1, round(shown / scale)))
    first = int(place * (length - cut + 1))
    return first, first + cut, shown


def cut_pixels(pixels: np.ndarray, crop: Crop) -> Tensor:
    """(H, W, 3) uint8 -> (3, height, width) uint8, resized bilinearly with antialiasing."""
    x0, y0, x1, y1 = crop.window
    cut = torch.from_numpy(np.ascontiguousarray(pixels[y0:y1, x0:x1]).transpose(2, 0, 1))[None]
    shown = F.interpolate(cut, (crop.height, crop.width), mode="bilinear", antialias=True)[0]
    return shown.flip(-1) if crop.flip else shown


def cut_map(labels: np.ndarray, crop: Crop) -> Tensor:
    """(H, W) -> (height, width): each pixel takes the number at its centre, so that no class is made up."""
    x0, y0, x1, y1 = crop.window
    shown = enlarged(labels[y0:y1, x0:x1], (crop.width, crop.height))
    return torch.from_numpy(np.ascontiguousarray(shown[:, ::-1] if crop.flip else shown))


def padded(pixels: Tensor, labels: Tensor, *, side: int, ignored: int) -> tuple[Tensor, Tensor]:
    """Fills up to `side` x `side` on the right and below: the photo with FILL, its map with `ignored`."""
    height, width = labels.shape
    full = torch.tensor(FILL, dtype=torch.uint8)[:, None, None].repeat(1, side, side)
    full[:, :height, :width] = pixels
    return full, F.pad(labels, (0, side - width, 0, side - height), value=ignored)
