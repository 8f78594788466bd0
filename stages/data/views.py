"""Views as plain numbers: which photo, which box of it, and which colour operations. No pixel is touched here.

A view is drawn from a generator made of (seed, epoch, image), so that any view can be drawn again, tested without a
photo, and resumed exactly. `stages.data.box_geometry` draws the boxes, `stages.data.render` turns views into pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.data.box_geometry import Box
from stages.data.uniform import between

# BYOL, appendix B, the same for every view and method. The blur's sigma is in pixels of the view.
FLIP_PROBABILITY = 0.5
BLUR_SIGMA = (0.1, 2.0)

_JITTER_OPERATIONS = ("brightness", "contrast", "saturation", "hue")


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


def part_rng(rng: np.random.Generator, part: int) -> np.random.Generator:
    """A generator of its own for part 1, 2, ... of what is drawn from `rng`, which it leaves as it is.

    It is `rng` moved on by more numbers than are ever drawn, so that parts do not disturb each other. Ask for all of
    them before drawing from `rng`.
    """
    bits: Any = rng.bit_generator  # Philox and PCG64 can jump; the class that they have in common says nothing of it
    return np.random.Generator(bits.jumped(part))


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
        blur_sigma=between(sigma, *BLUR_SIGMA) if blur < photometry.blur_probability else None,
        solarize=solarize < photometry.solarize_probability,
    )


def plain_view(image: int, box: Box, size: int) -> View:
    """`box` of photo `image`, resized to `size` x `size` pixels and not changed otherwise."""
    return View(image, box, size, flip=False, jitter=None, gray=False, blur_sigma=None, solarize=False)


def _color_jitter(uniform: list[float], photometry: Photometry) -> ColorJitter:
    """Factors and order as torchvision's ColorJitter draws them, from eight numbers."""
    brightness, contrast, saturation, hue, *keys = uniform
    return ColorJitter(
        order=tuple(name for _, name in sorted(zip(keys, _JITTER_OPERATIONS, strict=True))),
        brightness=_factor(brightness, photometry.brightness),
        contrast=_factor(contrast, photometry.contrast),
        saturation=_factor(saturation, photometry.saturation),
        hue=between(hue, -photometry.hue, photometry.hue),
    )


def _factor(uniform: float, strength: float) -> float:
    return between(uniform, max(0.0, 1 - strength), 1 + strength)
