"""Frames with measured depth: augmented ones to train on, and frames to test on.

Source: BYOL (arXiv:2006.07733), appendix D.6. Frames of 640 x 480 are halved and cropped to 304 x 228 in the middle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import functional as colors

from stages.data.catalog import Catalog
from stages.data.photos import Photos
from stages.data.views import view_rng
from stages.evaluation.tasks.dense.crops import Crop, cut_map, cut_pixels
from stages.evaluation.tasks.dense.depth_maps import DepthMaps

GRAY_PROBABILITY = 0.3
BRIGHTNESS = 0.1255  # at most added or taken away, where white is 1
SATURATION = (0.5, 1.5)
HUE = 0.2  # turns of the colour circle, to either side


class TrainingFrames:
    """`TaskData` of augmented frames (see `tasks.loop`): `pixels` (3, h, w) uint8 and `depth` (h, w) float32.

    A flip moves nothing nearer, so depth is mirrored alone.

    Args:
        short_side: of the frame, in pixels, before the centre is cropped.
        crop: width and height of that.
    """

    def __init__(self, catalog: Catalog, maps: DepthMaps, *, short_side: int, crop: tuple[int, int], seed: int) -> None:
        self._catalog, self._photos, self._maps = catalog, Photos(catalog), maps
        self._short_side, self._crop, self._seed = short_side, crop, seed

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        image, epoch = sample
        rng = view_rng(self._seed, epoch, image)
        size = tuple(self._catalog.sizes[image].tolist())
        shown = central_crop(size, self._short_side, self._crop, flip=bool(rng.random() < 0.5))
        pixels = recolored(cut_pixels(self._photos.open(image).pixels, shown), rng)
        return {"pixels": pixels, "depth": cut_map(self._maps[image], shown)}

    def collate(self, samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


class HeldOutFrames(Dataset):
    """Each frame's middle, in the order of the catalog: `pixels` (3, h, w) uint8 as in training, `depth` (H, W) float32
    of the same window at the frame's own resolution."""

    def __init__(self, catalog: Catalog, maps: DepthMaps, *, short_side: int, crop: tuple[int, int]) -> None:
        self._catalog, self._photos, self._maps = catalog, Photos(catalog), maps
        self._short_side, self._crop = short_side, crop

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, image: int) -> dict[str, Any]:
        size = tuple(self._catalog.sizes[image].tolist())
        shown = central_crop(size, self._short_side, self._crop)
        x0, y0, x1, y1 = shown.window
        depth = torch.from_numpy(self._maps[image][y0:y1, x0:x1].copy())
        return {"pixels": cut_pixels(self._photos.open(image).pixels, shown), "depth": depth}


def central_crop(size: tuple[int, int], short_side: int, crop: tuple[int, int], *, flip: bool = False) -> Crop:
    """The middle `crop` (width, height) of a frame whose shorter side has become `short_side`, or more where the crop
    would not fit otherwise. size: of the frame, width and height."""
    scale = max(short_side / min(size), crop[0] / size[0], crop[1] / size[1])
    (left, right), (top, bottom) = (
        _middle(length, round(side / scale)) for length, side in zip(size, crop, strict=True)
    )
    return Crop((left, top, right, bottom), *crop, flip)


def _middle(length: int, cut: int) -> tuple[int, int]:
    cut = min(length, max(1, cut))
    first = (length - cut) // 2
    return first, first + cut


def recolored(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """(3, h, w) uint8 -> the same, after the paper's four operations, in its order; rounded once."""
    gray, brightness, saturation, hue = rng.random(4).tolist()
    x = pixels.float() / 255
    if gray < GRAY_PROBABILITY:
        x = colors.rgb_to_grayscale(x, num_output_channels=3)
    x = (x + BRIGHTNESS * (2 * brightness - 1)).clamp(0, 1)
    x = colors.adjust_saturation(x, SATURATION[0] + (SATURATION[1] - SATURATION[0]) * saturation)
    x = colors.adjust_hue(x, HUE * (2 * hue - 1))
    return (255 * x).round().to(torch.uint8)
