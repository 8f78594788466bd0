"""Part (a): views a second that one core makes of JPEG files, ours beside torchvision's and lightly's.

A way gives one batch of all photos in this process, by its loader without workers: everything that a data worker does,
from the file to the batch, drawing of random numbers and collation included. Photos lie in the system's file cache.
Operations, probabilities and photos are the same for all. Ours gives uint8 and the others float32 normalised, as each
is used; `ours_float` is ours with that conversion.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.rounds import alternate, summary
from benchmarks.training.peers import (
    Crop,
    PeerViews,
    lightly,
    open_pil,
    open_pil_copy,
    open_tensor,
    torchvision_pil,
    torchvision_v2,
)
from benchmarks.training.photos import Photos
from stages.data.box_geometry import scene_crop
from stages.data.copies import Copies
from stages.data.loading import training_loader
from stages.data.policies import Policy
from stages.data.render import Interpolation
from stages.data.views import BYOL_VIEW_1, BYOL_VIEW_2, View, draw_view
from stages.learning.backbones import IMAGENET_MEAN, IMAGENET_STD

_RATIO = (3 / 4, 4 / 3)
_LAST_STEP = 10**6  # of loaders that are asked for one batch after another

_LARGE = (Crop(224, (0.08, 1.0), BYOL_VIEW_1), Crop(224, (0.08, 1.0), BYOL_VIEW_2))
# As many and as large as ORL's patches, with the areas of SwAV's small crops.
_SMALL = (Crop(96, (0.05, 0.14), BYOL_VIEW_1), Crop(96, (0.05, 0.14), BYOL_VIEW_2)) * 2
_SETS: dict[str, tuple[tuple[Crop, ...], Interpolation]] = {
    "2x224": (_LARGE, "bilinear"),
    "2x224+4x96": (_LARGE + _SMALL, "bilinear"),
    "2x224 bicubic": (_LARGE, "bicubic"),
}

# What each way gives, for those who compare.
WAYS = {
    "ours": "uint8; normalised later, by the network on its device",
    "ours_float": "float32 normalised, as the others give it",
    "ours_scaled_decode": "uint8, photos decoded at 1/2 or 1/4 where crops leave room; not pixel-exact",
    "ours_copies": "uint8, from stored copies of 341 x 256; fewer pixels to crop from",
    "ours_device": "uint8 photos and plans, packed for the device, which draws: the workers' part alone",
    "ours_device_copies": "the same from the stored copies",
    "torchvision_pil": "float32 normalised; torchvision v1 on PIL",
    "torchvision_pil_copies": "float32 normalised; torchvision v1 on PIL, from the same stored copies",
    "torchvision_v2": "float32 normalised; torchvision v2 on uint8 tensors; its blur convolves with 23 x 23 taps",
    "lightly": "float32 normalised; lightly's transform for BYOL, on PIL",
}


class CropViews(Policy):
    """The policy that draws `crops`, as `ImageViews` draws two."""

    def __init__(self, sizes: np.ndarray, crops: Sequence[Crop]) -> None:
        self._sizes, self._crops = sizes, crops
        self.names = tuple(f"view_{number}" for number in range(1, len(crops) + 1))

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        width, height = self._sizes[image].tolist()
        return {
            name: draw_view(rng, image, scene_crop(rng, width, height, crop.scale, _RATIO), crop.size, crop.photometry)
            for name, crop in zip(self.names, self._crops, strict=True)
        }


def measure(photos: Photos, rounds: int) -> dict[str, Any]:
    """Views a second and ratios of all sets of views, as JSON values."""
    with _one_thread():
        return {
            name: _measure(_ways(photos, crops, interpolation), len(photos.catalog) * len(crops), rounds)
            for name, (crops, interpolation) in _SETS.items()
        }


def _measure(ways: Mapping[str, Callable[[], object]], views: int, rounds: int) -> dict[str, Any]:
    seconds = alternate(ways, rounds)
    ours = [name for name in ways if name.startswith("ours")]
    return {
        "views_per_second": {name: summary(views / taken) for name, taken in seconds.items()},
        "times_as_fast": {
            f"{name} vs {peer}": summary(seconds[peer] / seconds[name])
            for name in ours
            for peer in ways
            if peer not in ours
        },
        "rounds": rounds,
    }


def _ways(photos: Photos, crops: Sequence[Crop], interpolation: Interpolation) -> dict[str, Callable[[], object]]:
    catalog, paths = photos.catalog, photos.paths()
    policy = CropViews(catalog.sizes, crops)

    def our(**settings: Any) -> Callable[[], Any]:
        loader = training_loader(
            catalog, policy, seed=0, batch_size=len(catalog), first_step=0, last_step=_LAST_STEP, workers=0,
            interpolation=interpolation, **settings,
        )  # fmt: skip
        batches = iter(loader)
        return lambda: next(batches)

    def peer(make: Any, open: Callable[[int], Any]) -> Callable[[], Any]:
        loader = DataLoader(PeerViews(len(paths), open, make, crops, interpolation), batch_size=len(paths))
        return lambda: next(iter(loader))

    ways = {"ours": our(), "torchvision_pil": peer(torchvision_pil, open_pil(paths))}
    if interpolation == "bicubic":
        return ways
    drawn = our()
    return ways | {
        "ours_float": lambda: _normalised(drawn().views),
        "ours_scaled_decode": our(scaled_decode=True),
        "ours_copies": our(copies=photos.copies),
        "ours_device": our(renderer="device"),
        "ours_device_copies": our(renderer="device", copies=photos.copies),
        "torchvision_pil_copies": peer(torchvision_pil, open_pil_copy(Copies(photos.copies))),
        "torchvision_v2": peer(torchvision_v2, open_tensor(paths)),
        "lightly": peer(lightly, open_pil(paths)),
    }


def _normalised(views: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """(N, 3, S, S) uint8 -> float32, in place where it can be."""
    mean, std = (255 * torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    return [view.float().sub_(mean).div_(std) for view in views.values()]


@contextmanager
def _one_thread() -> Iterator[None]:
    gc.freeze()  # as our data workers do; it helps all sides
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
