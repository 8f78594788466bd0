"""What a detector is shown: photos with their boxes and masks, resized as Detectron2 does (ResizeShortestEdge)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from pycocotools import mask as run_lengths
from torch import Tensor
from torch.utils.data import Dataset

from stages.data.catalog import Catalog
from stages.data.photos import Photos
from stages.data.views import view_rng
from stages.evaluation.tasks.detection.objects import LabelledObjects


class TrainingPhotos:
    """The photos with objects, each at a random size and flipped half of the time; data for `train_task`.

    A sample is (pixels (3, h, w) uint8 RGB, target): boxes (m, 4) float32 in these pixels, labels (m,) int64, which are
    the catalog's categories, and with `masks` masks (m, h, w) uint8.

    Args:
        short_sides: the shorter side is one of these, drawn evenly.
        longest: unless the longer one would exceed this; then the longer side has it.
        seed: what is drawn depends on this, the epoch and the photo alone.

    Raises:
        ValueError: no photo has an object.
    """

    def __init__(
        self,
        catalog: Catalog,
        objects: LabelledObjects,
        *,
        short_sides: Sequence[int],
        longest: int,
        masks: bool,
        seed: int,
    ) -> None:
        self._photos, self._objects = Photos(catalog), objects
        self._short_sides, self._longest, self._masks, self._seed = tuple(short_sides), longest, masks, seed
        self._images = objects.photos
        if not len(self._images):
            raise ValueError(f"no photo of {catalog.root} has a labelled object (crowds don't count) to learn from.")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, sample: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        index, epoch = sample
        image = int(self._images[index])
        rng = view_rng(self._seed, epoch, image)
        short_side, flipped = self._short_sides[rng.integers(len(self._short_sides))], rng.random() < 0.5

        pixels = self._photos.open(image).pixels
        size = scaled_size(pixels.shape[1], pixels.shape[0], short_side, self._longest)
        boxes, categories = self._objects.of(image)
        boxes *= np.tile(np.divide(size, (pixels.shape[1], pixels.shape[0])), 2).astype(np.float32)
        if flipped:
            boxes[:, [0, 2]] = size[0] - boxes[:, [2, 0]]
        target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(categories)}
        if self._masks:
            whole = pixels.shape[1], pixels.shape[0]
            masks = [outlined(json.loads(text), whole, size) for text in self._objects.outlines_of(image)]
            stacked = np.stack(masks)[..., :: -1 if flipped else 1]
            target["masks"] = torch.from_numpy(np.ascontiguousarray(stacked))
        resized_pixels = resized(pixels, size)[:, :: -1 if flipped else 1]
        return as_tensor(resized_pixels), target

    def collate(self, samples: list[Any]) -> dict[str, list[Any]]:
        """{"pixels": list of tensors of various sizes, "targets": list of dicts}; padded on the device."""
        return {"pixels": [pixels for pixels, _ in samples], "targets": [target for _, target in samples]}


class TestPhotos(Dataset):
    """Photo `image` at the size to test at: (image, pixels (3, h, w) uint8 RGB)."""

    __test__ = False  # no test for pytest to collect

    def __init__(self, catalog: Catalog, *, short_side: int, longest: int) -> None:
        self._photos, self._short_side, self._longest = Photos(catalog), short_side, longest

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, image: int) -> tuple[int, Tensor]:
        pixels = self._photos.open(image).pixels
        size = scaled_size(pixels.shape[1], pixels.shape[0], self._short_side, self._longest)
        return image, as_tensor(resized(pixels, size))


def scaled_size(width: int, height: int, short_side: int, longest: int) -> tuple[int, int]:
    """Width and height once the shorter side has `short_side` pixels, or the longer one `longest` if that is less."""
    scale = min(short_side / min(width, height), longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8 at `size` (width, height): bilinear, antialiased where it shrinks, by PIL as in Detectron2."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def as_tensor(pixels: np.ndarray) -> Tensor:
    """(h, w, 3) to a contiguous (3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def outlined(segmentation: Any, whole: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The mask of an object in a photo that was resized from `whole` to `size` (width, height). (h, w) uint8, 0 or 1.

    Polygons are scaled and then drawn, so that their edges stay sharp; run lengths are drawn and then scaled.
    """
    width, height = size
    if isinstance(segmentation, list):
        scale = width / whole[0], height / whole[1]
        scaled = [(np.reshape(polygon, (-1, 2)) * scale).ravel().tolist() for polygon in segmentation]
        return run_lengths.decode(run_lengths.merge(run_lengths.frPyObjects(scaled, height, width)))
    if isinstance(segmentation["counts"], list):
        segmentation = run_lengths.frPyObjects(segmentation, *segmentation["size"])
    return cv2.resize(run_lengths.decode(segmentation), size, interpolation=cv2.INTER_NEAREST)
