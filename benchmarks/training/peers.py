"""The same views made by others: torchvision on PIL pictures, torchvision v2 on tensors, lightly.

Each takes the operations and probabilities from our own `Photometry`, decodes a photo once for all its views, and gives
float32 normalised for ImageNet, as each of them documents it.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightly.transforms.byol_transform import BYOLView1Transform
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import io as torchvision_io
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

from stages.data.copies import Copies
from stages.data.render import SOLARIZE_THRESHOLD, Interpolation
from stages.data.views import BLUR_SIGMA, FLIP_PROBABILITY, Photometry
from stages.learning.backbones import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Crop:
    """A kind of view: side in pixels, area as a share of the photo (least and most), colour operations."""

    size: int
    scale: tuple[float, float]
    photometry: Photometry


Make = Callable[[Crop, Interpolation], Callable[[Any], Tensor]]


class PeerViews(Dataset):
    """All views of a photo, as the data set of a DataLoader.

    Args:
        open: image number -> what the transforms take.
    """

    def __init__(
        self, photos: int, open: Callable[[int], Any], make: Make, crops: Sequence[Crop], interpolation: Interpolation
    ) -> None:
        self._photos, self._open = photos, open
        self._transforms = [make(crop, interpolation) for crop in crops]

    def __len__(self) -> int:
        return self._photos

    def __getitem__(self, image: int) -> list[Tensor]:
        photo = self._open(image)
        return [transform(photo) for transform in self._transforms]


def open_pil(paths: Sequence[Path]) -> Callable[[int], Image.Image]:
    return lambda image: Image.open(paths[image]).convert("RGB")


def open_pil_copy(copies: Copies) -> Callable[[int], Image.Image]:
    return lambda image: Image.open(io.BytesIO(copies.jpeg(image))).convert("RGB")


def open_tensor(paths: Sequence[Path]) -> Callable[[int], Tensor]:
    """(3, H, W) uint8."""
    return lambda image: torchvision_io.decode_image(str(paths[image]), torchvision_io.ImageReadMode.RGB)


class PilBlur:
    """The blur of the published recipes on PIL, such as MoCo's and ORL's: PIL draws a Gaussian as a chain of boxes."""

    def __call__(self, picture: Image.Image) -> Image.Image:
        return picture.filter(ImageFilter.GaussianBlur(random.uniform(*BLUR_SIGMA)))


def torchvision_pil(crop: Crop, interpolation: Interpolation) -> v1.Compose:
    colors = crop.photometry
    jitter = v1.ColorJitter(colors.brightness, colors.contrast, colors.saturation, colors.hue)
    return v1.Compose(
        [
            v1.RandomResizedCrop(crop.size, crop.scale, interpolation=InterpolationMode(interpolation)),
            v1.RandomHorizontalFlip(FLIP_PROBABILITY),
            v1.RandomApply([jitter], colors.jitter_probability),
            v1.RandomGrayscale(colors.gray_probability),
            v1.RandomApply([PilBlur()], colors.blur_probability),
            v1.RandomSolarize(SOLARIZE_THRESHOLD, colors.solarize_probability),
            v1.ToTensor(),
            v1.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def torchvision_v2(crop: Crop, interpolation: Interpolation) -> Callable[[Tensor], Tensor]:
    colors = crop.photometry
    jitter = v2.ColorJitter(colors.brightness, colors.contrast, colors.saturation, colors.hue)
    taps = crop.size // 10 // 2 * 2 + 1  # a tenth of the side, odd: 23 at 224 (BYOL, appendix B)
    return v2.Compose(
        [
            v2.RandomResizedCrop(crop.size, crop.scale, interpolation=InterpolationMode(interpolation), antialias=True),
            v2.RandomHorizontalFlip(FLIP_PROBABILITY),
            v2.RandomApply([jitter], colors.jitter_probability),
            v2.RandomGrayscale(colors.gray_probability),
            v2.RandomApply([v2.GaussianBlur(taps, BLUR_SIGMA)], colors.blur_probability),
            v2.RandomSolarize(SOLARIZE_THRESHOLD, colors.solarize_probability),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def lightly(crop: Crop, interpolation: Interpolation) -> Callable[[Image.Image], Tensor]:
    """lightly's transform of one view for BYOL; it always crops bilinearly."""
    if interpolation != "bilinear":
        raise ValueError(f"interpolation={interpolation!r}: lightly's BYOLTransform crops bilinearly only.")
    colors = crop.photometry
    view = BYOLView1Transform(
        input_size=crop.size,
        cj_prob=colors.jitter_probability,
        cj_bright=colors.brightness,
        cj_contrast=colors.contrast,
        cj_sat=colors.saturation,
        cj_hue=colors.hue,
        random_gray_scale=colors.gray_probability,
        gaussian_blur=colors.blur_probability,
        solarization_prob=colors.solarize_probability,
        sigmas=BLUR_SIGMA,
        hf_prob=FLIP_PROBABILITY,
    )
    # Its own has no largest area: needed for small views.
    view.transform.transforms[0] = v2.RandomResizedCrop(crop.size, crop.scale)
    return view
