"""Views as plain numbers: which photo, which box of it, and which colour operations. No pixel is touched here.

A view is drawn from a generator made of (seed, epoch, image), so that any view can be drawn again, tested without a
photo, and resumed exactly. `stages.data.render` turns views into pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

# x0, y0, x1, y1 in pixels of the upright photo, half-open.
Box = tuple[float, float, float, float]

# BYOL, appendix B, the same for every view and method. The blur's sigma is in pixels of the view.
FLIP_PROBABILITY = 0.5
BLUR_SIGMA = (0.1, 2.0)

_JITTER_OPERATIONS = ("brightness", "contrast", "saturation", "hue")
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

# SimCLR (arXiv:2002.05709), appendix A, colours at full strength; the code is google-research/simclr, data_util.py.
_SIMCLR = Photometry(
    jitter_probability=0.8,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    gray_probability=0.2,
    blur_probability=0.5,
    solarize_probability=0.0,
)
# MoCo v2 (arXiv:2003.04297), section 3: with SimCLR's blur; the code is facebookresearch/moco, main_moco.py.
_MOCO = replace(_SIMCLR, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)

# Of view 1 and of view 2.
PHOTOMETRIES = {
    "byol": (BYOL_VIEW_1, BYOL_VIEW_2),
    "simclr": (_SIMCLR, _SIMCLR),
    "moco": (_MOCO, _MOCO),
}


def view_rng(seed: int, epoch: int, image: int) -> np.random.Generator:
    """The generator from which all views of `image` in `epoch` are drawn. All three are integers >= 0.

    Philox enciphers a counter under a key, so every (seed, epoch, image) is a place in it that no other reaches; and it
    starts at once, which counts: one is made for each sample.
    """
    key, counter = np.array([seed, epoch], np.uint64), np.array([0, image, 0, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def draw_view(rng: np.random.Generator, image: int, box: Box, size: int, photometry: Photometry) -> View:
    """A view of `box` with flip and colours drawn at random.

    The same numbers are drawn whatever the probabilities are, so that a run with another probability
    differs in that operation alone.
    """
    flip, jitter, gray, blur, solarize, sigma, *colors = rng.random(14).tolist()
    return View(
        image=image,
        box=box,
        size=size,
        flip=flip < FLIP_PROBABILITY,
        jitter=_color_jitter(colors, photometry) if jitter < photometry.jitter_probability else None,
        gray=gray < photometry.gray_probability,
        blur_sigma=_between(sigma, *BLUR_SIGMA) if blur < photometry.blur_probability else None,
        solarize=solarize < photometry.solarize_probability,
    )


def plain_view(image: int, box: Box, size: int) -> View:
    """`box` of photo `image`, resized to `size` x `size` pixels and not changed otherwise."""
    return View(image, box, size, flip=False, jitter=None, gray=False, blur_sigma=None, solarize=False)


def scene_crop(
    rng: np.random.Generator, width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """A random crop of a photo of `width` x `height` pixels: torchvision's RandomResizedCrop.

    The area is uniform in `scale` (fractions of the photo), width / height log-uniform in `ratio`, the place uniform.
    When ten draws do not fit, the largest central crop with an allowed ratio. Whole pixels, always inside the photo.
    """
    for _ in range(_SCENE_CROP_TRIES):
        share, shape, x, y = rng.random(4).tolist()
        w, h = _sides(width * height * _between(share, *scale), _log_between(shape, *ratio))
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
        w, h = _sides(box_w * box_h * _between(share, *scale), _log_between(shape, *ratio))
        left = round((x0 + x1) / 2 + _between(x, *shift) * box_w - w / 2)
        top = round((y0 + y1) / 2 + _between(y, *shift) * box_h - h / 2)
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


def _sides(area: float, aspect: float) -> tuple[int, int]:
    """Width and height in whole pixels."""
    return round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))


# Numbers are drawn many at a time, uniform in [0, 1), and then brought into place: a call of a generator costs far more
# than such a sum.


def _between(uniform: float, low: float, high: float) -> float:
    return low + uniform * (high - low)


def _log_between(uniform: float, low: float, high: float) -> float:
    return math.exp(_between(uniform, math.log(low), math.log(high)))


def _color_jitter(uniform: list[float], photometry: Photometry) -> ColorJitter:
    """Factors and order as torchvision's ColorJitter draws them, from eight numbers."""
    brightness, contrast, saturation, hue, *keys = uniform
    return ColorJitter(
        order=tuple(name for _, name in sorted(zip(keys, _JITTER_OPERATIONS, strict=True))),
        brightness=_factor(brightness, photometry.brightness),
        contrast=_factor(contrast, photometry.contrast),
        saturation=_factor(saturation, photometry.saturation),
        hue=_between(hue, -photometry.hue, photometry.hue),
    )


def _factor(uniform: float, strength: float) -> float:
    return _between(uniform, max(0.0, 1 - strength), 1 + strength)
