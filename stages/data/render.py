"""From views to pixels, on the CPU with PIL: a photo is decoded once and all its views are drawn from it.

Operations are torchvision's on PIL images, so that a view has the very pixels the published recipes train on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import functional as F

from stages.data.views import Box, ColorJitter, View

Interpolation = Literal["bilinear", "bicubic"]

SOLARIZE_THRESHOLD = 128  # BYOL, appendix B: pixels from here on are inverted

_ADJUST = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


def render(
    views: Mapping[str, View],
    open_photo: Callable[[int, int], Image.Image],
    *,
    scaled_decode: bool = False,
    interpolation: Interpolation = "bilinear",
) -> dict[str, Tensor]:
    """Draws `views`; each is a (3, size, size) uint8 RGB tensor under the view's name.

    Args:
        open_photo: (image, reduction) -> the upright RGB photo, ceil(side / reduction) pixels a side, as
            `stages.data.decode.decode` gives it. Called once for each photo that the views show.
        scaled_decode: open a photo at the largest reduction (2, 4 or 8) that leaves every view's crop at least as many
            pixels a side as the view has. Cheaper, and close to the exact pixels, but not equal to them.
        interpolation: how a crop becomes `size` x `size`, with antialiasing: "bilinear" as the official ORL code does,
            "bicubic" as BYOL does.
    """
    photos: dict[int, tuple[Image.Image, int]] = {}
    for image in {view.image: None for view in views.values()}:
        reduction = largest_reduction(view for view in views.values() if view.image == image) if scaled_decode else 1
        photos[image] = open_photo(image, reduction), reduction
    return {name: _draw(view, *photos[view.image], interpolation) for name, view in views.items()}


def largest_reduction(views: Iterable[View]) -> int:
    """The largest of 1, 2, 4, 8 at which each view's crop keeps at least `size` pixels a side; 1 if none does."""
    room = min(min(view.box[2] - view.box[0], view.box[3] - view.box[1]) / view.size for view in views)
    return next((reduction for reduction in (8, 4, 2) if room >= reduction), 1)


def _draw(view: View, photo: Image.Image, reduction: int, interpolation: Interpolation) -> Tensor:
    picture = _crop(photo, view.box, reduction, view.size, interpolation)
    if view.flip:
        picture = F.hflip(picture)
    if view.jitter is not None:
        picture = _adjust_colors(picture, view.jitter)
    if view.gray:
        picture = F.rgb_to_grayscale(picture, num_output_channels=3)
    if view.blur_sigma is not None:
        picture = picture.filter(ImageFilter.GaussianBlur(view.blur_sigma))
    if view.solarize:
        picture = F.solarize(picture, SOLARIZE_THRESHOLD)
    return F.pil_to_tensor(picture).contiguous()


def _crop(photo: Image.Image, box: Box, reduction: int, size: int, interpolation: Interpolation) -> Image.Image:
    """`box` (in pixels of the whole photo) of a photo that was opened at `reduction`, resized to `size` x `size`.

    Resizing sees only pixels of the box, as in torchvision's `resized_crop`, to which this is equal at reduction 1:
    antialiasing must not let in what lies beside it.
    """
    x0, y0, x1, y1 = (side / reduction for side in box)
    left, top = math.floor(x0), math.floor(y0)
    cut = photo.crop((left, top, math.ceil(x1), math.ceil(y1)))
    inner = (x0 - left, y0 - top, x1 - left, y1 - top)
    return cut.resize((size, size), Image.Resampling[interpolation.upper()], box=inner)


def _adjust_colors(picture: Image.Image, jitter: ColorJitter) -> Image.Image:
    for name in jitter.order:
        picture = _ADJUST[name](picture, getattr(jitter, name))
    return picture
