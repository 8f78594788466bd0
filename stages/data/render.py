"""From views to pixels, on the CPU: a photo is decoded once and all its views are drawn from it.

It agrees with torchvision, in whose operations recipes are written; tests hold it to these figures, in levels of
0 .. 255, on real photographs:

* Crop and antialiased resize are torch's, on uint8. PIL's differs by less than 0.3 on average; by 2 at most where it is
  bilinear, and by up to 20 at a few edges where it is bicubic: both cut off what overshoots between rows and columns,
  but not always in the same order.
* Flip, jitter, gray, blur and solarise together differ by 1 at most from torchvision on float32 tensors, with a
  Gaussian cut off at 3 sigma.
* Whole views differ from torchvision's on PIL images, which the official ORL code shows, by 1.2 on average and less
  than 3.5 in each: PIL drops the fraction of a level after every operation, has 256 hues, and blurs with box filters.

One thread does it all. Pixels are the same on every machine, but for a level here and there: processors differ in how
they round long sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.data.views import Box, View

Interpolation = Literal["bilinear", "bicubic"]

SOLARIZE_THRESHOLD = 128  # BYOL, appendix B: pixels from here on are inverted

_NEVER = 256  # no level reaches it
BLUR_RADIUS = 3  # in sigmas


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A decoded photo, perhaps smaller than the catalog says: decoded at a reduced scale, or a stored copy.

    `pixels` is (h, w, 3) uint8 RGB; `scale_x` and `scale_y` are its pixels a side per pixel of the whole photo.
    """

    pixels: np.ndarray
    scale_x: float = 1.0
    scale_y: float = 1.0


def render(
    views: Mapping[str, View],
    open_pixels: Callable[[int, int], Photo],
    *,
    scaled_decode: bool = False,
    interpolation: Interpolation = "bilinear",
    into: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Draws `views`; each is a contiguous (3, size, size) uint8 RGB tensor under the view's name.

    Args:
        open_pixels: (image, reduction) -> the upright photo, for which about 1 / reduction of the pixels a side are
            enough; it may give more or fewer. Called once for each photo that the views show.
        scaled_decode: ask for a photo at the largest reduction (2, 4 or 8) that leaves every view's crop at least as
            many pixels a side as the view has. Cheaper, and close to the exact pixels, but not equal to them.
        interpolation: how a crop becomes `size` x `size`, with antialiasing: "bilinear" as the official ORL code does,
            "bicubic" as BYOL does.
        into: the tensors to draw the views into; None for new ones.
    """
    photos = {}
    for image in {view.image: None for view in views.values()}:
        reduction = largest_reduction(view for view in views.values() if view.image == image) if scaled_decode else 1
        photos[image] = open_pixels(image, reduction)
    if into is None:
        into = {name: torch.empty((3, view.size, view.size), dtype=torch.uint8) for name, view in views.items()}
    for name, view in views.items():
        _draw(view, photos[view.image], interpolation, into[name])
    return dict(into)


def largest_reduction(views: Iterable[View]) -> int:
    """The largest of 1, 2, 4, 8 at which each view's crop keeps at least `size` pixels a side; 1 if none does."""
    room = min(min(view.box[2] - view.box[0], view.box[3] - view.box[1]) / view.size for view in views)
    return next((reduction for reduction in (8, 4, 2) if room >= reduction), 1)


def crop_window(box: Box, photo: Photo) -> tuple[int, int, int, int]:
    """`box` (in pixels of the whole photo) in whole pixels of `photo`: left, top, right, bottom, half-open.

    Each side is rounded to the nearest pixel, so it moves by half a pixel at most; at least one pixel stays.
    """
    x0, y0, x1, y1 = box
    height, width = photo.pixels.shape[:2]
    scaled = x0 * photo.scale_x, y0 * photo.scale_y, x1 * photo.scale_x, y1 * photo.scale_y
    return whole_window(scaled, width, height)


def whole_window(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The same of a box in pixels of the very picture, which has `width` x `height` of them."""
    left, right = _whole(box[0], box[2], width)
    top, bottom = _whole(box[1], box[3], height)
    return left, top, right, bottom


def _whole(low: float, high: float, length: int) -> tuple[int, int]:
    first = max(0, min(int(low + 0.5), length - 1))
    return first, max(first + 1, min(int(high + 0.5), length))


def _draw(view: View, photo: Photo, interpolation: Interpolation, into: Tensor) -> None:
    from stages.data import pixels  # compiled when it is first needed, not by whoever imports this module

    picture = _crop(photo, view.box, view.size, interpolation)
    if view.flip:
        picture = cv2.flip(picture, 1)
    steps = []
    if view.jitter is not None:
        steps = [(pixels.OPERATIONS[name], getattr(view.jitter, name)) for name in view.jitter.order]
    if view.gray:
        steps.append((pixels.OPERATIONS["gray"], 0.0))
    planes = np.empty((3, view.size, view.size), np.float32)
    pixels.adjust(picture, np.array(steps, np.float32).reshape(-1, 2), planes)
    if view.blur_sigma is not None:
        _blur(planes, view.blur_sigma)
    pixels.store(planes, SOLARIZE_THRESHOLD if view.solarize else _NEVER, into.numpy())


def _crop(photo: Photo, box: Box, size: int, interpolation: Interpolation) -> np.ndarray:
    """`box` resized to (size, size, 3) uint8 with antialiasing that sees only pixels of the box."""
    left, top, right, bottom = crop_window(box, photo)
    cut = np.ascontiguousarray(photo.pixels[top:bottom, left:right])
    # Laid out in memory as torch knows it by "channels last": then it neither repacks the crop nor what it makes of it.
    channels_last = torch.from_numpy(cut.reshape(1, *cut.shape).transpose(0, 3, 1, 2))  # (1, 3, h, w)
    resized = F.interpolate(channels_last, (size, size), mode=interpolation, antialias=True)
    return np.ascontiguousarray(resized.numpy()[0].transpose(1, 2, 0))  # no copy, where torch kept to the layout


def _blur(planes: np.ndarray, sigma: float) -> None:
    side = 2 * math.ceil(BLUR_RADIUS * sigma) + 1
    for plane in planes:
        cv2.GaussianBlur(plane, (side, side), sigma, dst=plane, borderType=cv2.BORDER_REFLECT_101)
