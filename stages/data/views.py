"""Views as plain numbers: which photo, which box of it, and which colour operations. No pixel is touched here.

A view is drawn from a generator made of (seed, epoch, image), so that any view can be drawn again, tested without a
photo, and resumed exactly. `stages.data.render` turns views into pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# x0, y0, x1, y1 in pixels of the upright photo, half-open.
Box = tuple[float, float, float, float]

# BYOL, appendix B, the same for every view. The blur's sigma is in pixels of the view.
FLIP_PROBABILITY = 0.5
BLUR_SIGMA = (0.1, 2.0)

_SCENE_CROP_TRIES = 10  # torchvision RandomResizedCrop
_JITTER_BOX_TRIES = 200  # official ORL code, openselfsup/datasets/orl.py


@dataclass(frozen=True, slots=True)
class ColorJitter:
    """Factors of the four colour operations (1, 1, 1 and 0 change nothing) and the order to apply them in.

    `hue` is a shift in turns of the colour circle, in [-0.5, 0.5].
    """

    order: tuple[str, ...]
    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True, slots=True)
class View:
    """Everything that decides the pixels of one view. `box` of photo `image` becomes `size` x `size` pixels.

    Operations apply in the order of the fields; `None` and `False` leave an operation out.
    """

    image: int
    box: Box
    size: int
    flip: bool
    jitter: ColorJitter | None
    gray: bool
    blur_sigma: float | None
    solarize: bool


@dataclass(frozen=True)
class Photometry:
    """Probabilities and strengths of the colour operations of one view.

    A factor of brightness, contrast or saturation is uniform in [max(0, 1 - strength), 1 + strength], the shift of the
    hue in [-hue, hue], as in torchvision's ColorJitter.
    """

    jitter_probability: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    gray_probability: float
    blur_probability: float
    solarize_probability: float


# BYOL (arXiv:2006.07733), appendix B; the official ORL code uses the same lists for photos and patches.
BYOL_VIEW_1 = Photometry(
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    gray_probability=0.2,
    blur_probability=1.0,
    solarize_probability=0.0,
)
BYOL_VIEW_2 = Photometry(
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    gray_probability=0.2,
    blur_probability=0.1,
    solarize_probability=0.2,
)


def view_rng(seed: int, epoch: int, image: int) -> np.random.Generator:
    """The generator from which all views of `image` in `epoch` are drawn. All three are integers >= 0."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, image)))


def draw_view(rng: np.random.Generator, image: int, box: Box, size: int, photometry: Photometry) -> View:
    """A view of `box` with flip and colours drawn at random.

    The same numbers are drawn whatever the probabilities are, so that a run with another probability
    differs in that operation alone.
    """
    flip, jitter, gray, blur, solarize = rng.random(5)
    colors = _draw_jitter(rng, photometry)
    sigma = float(rng.uniform(*BLUR_SIGMA))
    return View(
        image=image,
        box=box,
        size=size,
        flip=bool(flip < FLIP_PROBABILITY),
        jitter=colors if jitter < photometry.jitter_probability else None,
        gray=bool(gray < photometry.gray_probability),
        blur_sigma=sigma if blur < photometry.blur_probability else None,
        solarize=bool(solarize < photometry.solarize_probability),
    )


def scene_crop(
    rng: np.random.Generator, width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """A random crop of a photo of `width` x `height` pixels: torchvision's RandomResizedCrop.

    The area is uniform in `scale` (fractions of the photo), width / height log-uniform in `ratio`, the place uniform.
    When ten draws do not fit, the largest central crop with an allowed ratio. Whole pixels, always inside the photo.
    """
    for _ in range(_SCENE_CROP_TRIES):
        area = width * height * rng.uniform(*scale)
        aspect = _log_uniform(rng, ratio)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            y0 = int(rng.integers(0, height - h + 1))
            x0 = int(rng.integers(0, width - w + 1))
            return x0, y0, x0 + w, y0 + h
    w, h = width, height
    if width / height < min(ratio):
        h = round(width / min(ratio))
    elif width / height > max(ratio):
        w = round(height * max(ratio))
    x0, y0 = (width - w) // 2, (height - h) // 2
    return x0, y0, x0 + w, y0 + h


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
        area = box_w * box_h * rng.uniform(*scale)
        aspect = _log_uniform(rng, ratio)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        left = round((x0 + x1) / 2 + rng.uniform(*shift) * box_w - w / 2)
        top = round((y0 + y1) / 2 + rng.uniform(*shift) * box_h - h / 2)
        jittered = (left, top, left + w, top + h)
        inside = left >= 0 and top >= 0 and left + w <= width and top + h <= height and w > 0 and h > 0
        if inside and (min_iou is None or iou(jittered, box) > min_iou):
            return jittered
    return box


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes of positive area, in [0, 1]."""
    w = min(first[2], second[2]) - max(first[0], second[0])
    h = min(first[3], second[3]) - max(first[1], second[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (_area(first) + _area(second) - w * h)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def _draw_jitter(rng: np.random.Generator, photometry: Photometry) -> ColorJitter:
    """Factors as torchvision's ColorJitter draws them."""
    names = ("brightness", "contrast", "saturation", "hue")
    order = tuple(names[index] for index in rng.permutation(4))
    brightness, contrast, saturation = (
        float(rng.uniform(max(0.0, 1 - strength), 1 + strength))
        for strength in (photometry.brightness, photometry.contrast, photometry.saturation)
    )
    return ColorJitter(order, brightness, contrast, saturation, float(rng.uniform(-photometry.hue, photometry.hue)))
