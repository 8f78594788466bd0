"""Boxes as plain numbers: drawn, moved and resized inside a photo. Whole pixels come of whole pixels."""

from __future__ import annotations

import math

import numpy as np

from stages.data.uniform import between, log_between

# x0, y0, x1, y1 in pixels of the upright photo, half-open.
Box = tuple[float, float, float, float]

_SCENE_CROP_TRIES = 10  # torchvision RandomResizedCrop
_JITTER_BOX_TRIES = 200  # official ORL code, openselfsup/datasets/orl.py
_SHIFT_BOX_TRIES = 100  # as many as the released code of object-aware cropping makes


def scene_crop(
    rng: np.random.Generator, width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """A random crop of a photo of `width` x `height` pixels: torchvision's RandomResizedCrop.

    The area is uniform in `scale` (fractions of the photo), width / height log-uniform in `ratio`, the place uniform.
    When ten draws do not fit, the largest central crop with an allowed ratio. Whole pixels, always inside the photo.
    """
    for _ in range(_SCENE_CROP_TRIES):
        share, shape, x, y = rng.random(4).tolist()
        w, h = _sides(width * height * between(share, *scale), log_between(shape, *ratio))
        if 0 < w <= width and 0 < h <= height:
            x0, y0 = int(x * (width - w + 1)), int(y * (height - h + 1))
            return x0, y0, x0 + w, y0 + h
    w, h = width, height
    if width / height < min(ratio):
        h = round(width / min(ratio))
    elif width / height > max(ratio):
        w = round(height * max(ratio))
    x0, y0 = (width - w) // 2, (height - h) // 2
    return x0, y0, x0 + w, y0 + h


def crop_of_box(rng: np.random.Generator, box: Box, scale: tuple[float, float], ratio: tuple[float, float]) -> Box:
    """A random crop of `box`, as `scene_crop` takes one of a photo: `scale` is a share of the box."""
    x0, y0, x1, y1 = box
    left, top, right, bottom = scene_crop(rng, int(x1 - x0), int(y1 - y0), scale, ratio)
    return x0 + left, y0 + top, x0 + right, y0 + bottom


def jitter_box(
    rng: np.random.Generator,
    box: Box,
    width: int,
    height: int,
    *,
    min_iou: float | None = 0.5,
    shift: tuple[float, float] = (-0.5, 0.5),
    scale: tuple[float, float] = (0.5, 2.0),
    ratio: tuple[float, float] = (0.5, 2.0),
) -> Box:
    """ORL's second intra-RoI: `box` shifted, resized and reshaped, inside the photo of `width` x `height` pixels.

    The centre moves by a uniform share `shift` of the box's width and height, the area is multiplied by a uniform
    factor `scale`, and the new width / height is log-uniform in `ratio`, whatever that of `box` was. Sides and place
    are rounded to whole pixels. A draw counts when it lies inside the photo and its IoU with `box` exceeds `min_iou`;
    after 200 draws that do not count, `box` itself.

    Source: ORL (arXiv:2106.11952), section 3.1, stage 3, which has no bound on the IoU (`min_iou=None`); the official
    code (openselfsup/datasets/orl.py) requires more than 0.5.
    """
    x0, y0, x1, y1 = box
    box_w, box_h = x1 - x0, y1 - y0
    for _ in range(_JITTER_BOX_TRIES):
        share, shape, x, y = rng.random(4).tolist()
        w, h = _sides(box_w * box_h * between(share, *scale), log_between(shape, *ratio))
        left = round((x0 + x1) / 2 + between(x, *shift) * box_w - w / 2)
        top = round((y0 + y1) / 2 + between(y, *shift) * box_h - h / 2)
        jittered = (left, top, left + w, top + h)
        possible = w > 0 and h > 0 and _inside(jittered, width, height)
        if possible and (min_iou is None or iou(jittered, box) > min_iou):
            return jittered
    return box


def widen_box(box: Box, width: int, height: int, least: int) -> Box:
    """`box` with each side that is shorter than `least` pixels made `least` long, about the box's centre.

    At the border of the photo the result is moved inside it; where the photo itself is shorter, that whole side is
    taken. It always holds `box`.

    Source: object-aware cropping (arXiv:2112.00319), appendix G, "a center crop of size 224 x 224". A side
    that is long enough stays: a crop of 224 both ways would cut long thin objects.
    """
    x0, x1 = _widened(box[0], box[2], width, least)
    y0, y1 = _widened(box[1], box[3], height, least)
    return x0, y0, x1, y1


def _widened(low: float, high: float, length: int, least: int) -> tuple[float, float]:
    side = min(least, length)
    if high - low >= side:
        return low, high
    first = min(max(0, round((low + high - side) / 2)), length - side)
    return first, first + side


def dilate_box(box: Box, width: int, height: int, dilation: float) -> Box:
    """`box` with its left and right edge moved outwards by `dilation` of the photo's width, its upper and lower edge by
    `dilation` of its height, as far as the photo reaches. It always holds `box`.

    Source: object-aware cropping, section 3 (a), "dilate the box by 10% or 20% of the image size". Each edge moves by
    that much, as in a dilation by a radius, and as in the released code, whose edges move by a share of their own
    coordinates (so the more, the further right and down they are).
    """
    x0, y0, x1, y1 = box
    right, down = round(dilation * width), round(dilation * height)
    return max(0, x0 - right), max(0, y0 - down), min(width, x1 + right), min(height, y1 + down)


def shift_box(
    rng: np.random.Generator, box: Box, width: int, height: int, *, distance: tuple[float, float]
) -> Box | None:
    """`box` moved by a uniform `distance` in pixels of the photo, in a uniform direction, rounded to whole pixels.

    A draw counts when it lies inside the photo; None after 100 draws that do not count, as with boxes that leave too
    little room around them.

    Source: object-aware cropping, section 3 (c) and appendix D, "the distance of the second object-object crop in any
    random direction from the center of the object crop".
    """
    x0, y0, x1, y1 = box
    for _ in range(_SHIFT_BOX_TRIES):
        far, turn = rng.random(2).tolist()
        length, angle = between(far, *distance), 2 * math.pi * turn
        right, down = round(length * math.cos(angle)), round(length * math.sin(angle))
        shifted = (x0 + right, y0 + down, x1 + right, y1 + down)
        if _inside(shifted, width, height):
            return shifted
    return None


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes of positive area, in [0, 1]."""
    w = min(first[2], second[2]) - max(first[0], second[0])
    h = min(first[3], second[3]) - max(first[1], second[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (_area(first) + _area(second) - w * h)


def _inside(box: Box, width: int, height: int) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _sides(area: float, aspect: float) -> tuple[int, int]:
    """Width and height in whole pixels."""
    return round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
