"""Photos with the class of each pixel: crops to train on, and photos to test on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stages.data.catalog import Catalog
from stages.data.photos import Photos
from stages.data.views import view_rng
from stages.evaluation.tasks.dense.class_maps import ClassMaps
from stages.evaluation.tasks.dense.crops import Crop, cut_map, cut_pixels, draw_crop, padded
from stages.evaluation.tasks.dense.label_styles import IGNORED


class TrainingCrops:
    """`TaskData` of random crops (see `tasks.loop`): `pixels` (3, S, S) uint8 and `labels` (S, S) int32.

    Args:
        short_side: pixels of a photo's shorter side at scale 1; None for the photo as it is.
    """

    def __init__(
        self,
        catalog: Catalog,
        maps: ClassMaps,
        *,
        side: int,
        scales: tuple[float, float],
        short_side: int | None,
        seed: int,
    ) -> None:
        self._catalog, self._photos, self._maps = catalog, Photos(catalog), maps
        self._side, self._scales, self._short_side, self._seed = side, scales, short_side, seed

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        image, epoch = sample
        size = tuple(self._catalog.sizes[image].tolist())
        factor = _factor(size, self._short_side)
        scales = self._scales[0] * factor, self._scales[1] * factor
        crop = draw_crop(view_rng(self._seed, epoch, image), size, side=self._side, scales=scales)
        pixels = cut_pixels(self._photos.open(image).pixels, crop)
        labels = cut_map(self._maps[image].astype(np.int32), crop)
        pixels, labels = padded(pixels, labels, side=self._side, ignored=IGNORED)
        return {"pixels": pixels, "labels": labels}

    def collate(self, samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


class HeldOutPhotos(Dataset):
    """Each photo and its labels, in the order of the catalog: `pixels` (3, h, w) uint8 at the scale that is tested at,
    `labels` (H, W) int32 at the photo's own.

    Args:
        central: side of the square in the middle that is shown (BYOL: 513), of the scaled photo; None for all of it.
        short_side: as in training.
    """

    def __init__(self, catalog: Catalog, maps: ClassMaps, *, central: int | None, short_side: int | None) -> None:
        self._catalog, self._photos, self._maps = catalog, Photos(catalog), maps
        self._central, self._short_side = central, short_side

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, image: int) -> dict[str, Any]:
        crop = held_out_crop(tuple(self._catalog.sizes[image].tolist()), self._central, self._short_side)
        x0, y0, x1, y1 = crop.window
        labels = torch.from_numpy(self._maps[image][y0:y1, x0:x1].astype(np.int32))
        return {"pixels": cut_pixels(self._photos.open(image).pixels, crop), "labels": labels}


def held_out_crop(size: tuple[int, int], central: int | None, short_side: int | None) -> Crop:
    """What is shown of a photo of this size (width, height) when it is tested on."""
    factor = _factor(size, short_side)
    spans = []
    for length in size:
        cut = length if central is None else min(length, max(1, round(central / factor)))
        first = (length - cut) // 2
        spans.append((first, first + cut, max(1, round(cut * factor))))
    (x0, x1, width), (y0, y1, height) = spans
    return Crop((x0, y0, x1, y1), width, height, flip=False)


def _factor(size: tuple[int, int], short_side: int | None) -> float:
    return 1.0 if short_side is None else short_side / min(size)
