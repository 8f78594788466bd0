"""Whole photos with their classes, augmented as the protocols of image classification do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.data.box_geometry import scene_crop
from stages.data.catalog import Catalog
from stages.data.photos import Photos
from stages.data.policies.image_views import shared
from stages.data.render import render
from stages.data.views import Photometry, draw_view, part_rng, view_rng
from stages.evaluation.tasks.targets import Targets

# Directions in which the colours of ImageNet's pixels vary, in 0..1, and how much: Krizhevsky et al. 2012, section 4.1;
# the numbers are those of facebook/fb.resnet.torch, which the codes of the papers have taken over.
_LIGHT_DEVIATIONS = np.array([0.2175, 0.0188, 0.0045])
_LIGHT_DIRECTIONS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)  # fmt: skip


@dataclass(frozen=True)
class Augmentation:
    """A random crop, a flip half of the time, colours, and light: the pixels moved along `_LIGHT_DIRECTIONS` by a
    normal share, of deviation `light`, of `_LIGHT_DEVIATIONS`."""

    photometry: Photometry
    light: float


_PLAIN = Photometry(
    jitter_probability=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    gray_probability=0.0,
    blur_probability=0.0,
    solarize_probability=0.0,
)
# Those of OpenSelfSup, which the official ORL code uses: "color" for probes on ImageNet, "plain" for all others.
AUGMENTATIONS = {
    "plain": Augmentation(_PLAIN, light=0.0),
    "color": Augmentation(
        replace(_PLAIN, jitter_probability=1.0, brightness=0.4, contrast=0.4, saturation=0.4), light=0.1
    ),
}


class TrainingPictures:
    """Random crops of photos: the data of `train_task`.

    A sample has `pixels` (3, size, size) uint8 RGB, `light` (3,) float32 to be added to its pixels, in levels of
    0..255, and `target` (see `Targets.of`).

    Raises (when read):
        UnreadablePhoto: a photo is gone, broken or changed since the catalog was made.
    """

    def __init__(
        self,
        catalog: Catalog,
        targets: Targets,
        images: np.ndarray,
        *,
        size: int,
        min_crop: float,
        augmentation: str,
        seed: int,
    ) -> None:
        """
        Args:
            images: (n,) int64 numbers of the photos to train on.
            size: side of a picture in pixels.
            min_crop: the smallest area of a crop, as a share of the photo; the largest is the whole photo.
            augmentation: a name in AUGMENTATIONS.
        """
        if augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation '{augmentation}' is not known. Choose one of {', '.join(AUGMENTATIONS)}.")
        self._catalog, self._targets, self._images = catalog, targets, shared(images)
        self._photos = Photos(catalog)
        self._size, self._scale, self._seed = size, (min_crop, 1.0), seed
        self._augmentation = AUGMENTATIONS[augmentation]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, sample: tuple[int, int], /) -> dict[str, Any]:
        index, epoch = sample
        image = int(self._images[index])
        rng = view_rng(self._seed, epoch, image)
        light_rng = part_rng(rng, 1)
        width, height = self._catalog.sizes[image].tolist()
        box = scene_crop(rng, width, height, self._scale, (3 / 4, 4 / 3))
        view = draw_view(rng, image, box, self._size, self._augmentation.photometry)
        light = light_rng.normal(0, 1, 3) * self._augmentation.light * _LIGHT_DEVIATIONS
        return {
            "pixels": render({"picture": view}, self._photos.open)["picture"],
            "light": torch.from_numpy((255 * _LIGHT_DIRECTIONS @ light).astype(np.float32)),
            "target": torch.from_numpy(self._targets.of(image)),
        }

    def collate(self, samples: list[dict[str, Any]], /) -> dict[str, Tensor]:
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def lit(batch: dict[str, Tensor]) -> Tensor:
    """Pixels with their light, (N, 3, S, S) float32 about 0..255: light is added last and not rounded."""
    return batch["pixels"].float() + batch["light"][:, :, None, None]
