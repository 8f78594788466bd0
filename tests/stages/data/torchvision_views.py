"""What torchvision draws of a view: the reference that `stages.data.render` is held to."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import functional as F

from stages.data.views import View

_ADJUST = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


def on_tensors(view: View, pixels: np.ndarray, interpolation: str = "bilinear") -> Tensor:
    """(3, S, S) uint8 by torchvision on tensors: resized as uint8, from then on float32 and rounded once, at the end.

    `view.box` lies at whole pixels. The kernel of the blur has the size that ours has.
    """
    picture = F.resized_crop(
        torch.from_numpy(pixels).permute(2, 0, 1), *_window(view), F.InterpolationMode(interpolation)
    )
    picture = picture.float() / 255
    if view.flip:
        picture = F.hflip(picture)
    for name in view.jitter.order if view.jitter else ():
        picture = _ADJUST[name](picture, getattr(view.jitter, name))
    if view.gray:
        picture = F.rgb_to_grayscale(picture, 3)
    if view.blur_sigma is not None:
        side = 2 * math.ceil(3 * view.blur_sigma) + 1
        picture = F.gaussian_blur(picture, [side, side], [view.blur_sigma, view.blur_sigma])
    picture = (255 * picture).round().to(torch.uint8)
    return F.solarize(picture, 128) if view.solarize else picture


def on_pil(view: View, pixels: np.ndarray, interpolation: str = "bilinear") -> Tensor:
    """(3, S, S) uint8 by torchvision on PIL images, as the official ORL, MoCo and BYOL-like recipes do."""
    picture = F.resized_crop(Image.fromarray(pixels), *_window(view), F.InterpolationMode(interpolation))
    if view.flip:
        picture = F.hflip(picture)
    for name in view.jitter.order if view.jitter else ():
        picture = _ADJUST[name](picture, getattr(view.jitter, name))
    if view.gray:
        picture = F.to_grayscale(picture, 3)
    if view.blur_sigma is not None:
        picture = picture.filter(ImageFilter.GaussianBlur(view.blur_sigma))
    return F.pil_to_tensor(F.solarize(picture, 128) if view.solarize else picture)


def _window(view: View) -> tuple[int, int, int, int, list[int]]:
    x0, y0, x1, y1 = (int(side) for side in view.box)
    return y0, x0, y1 - y0, x1 - x0, [view.size, view.size]
