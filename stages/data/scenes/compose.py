"""One scene: a background, some objects and some clutter in it, and which pixels are whose."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stages.data.scenes.backgrounds import Photos
from stages.data.scenes.classes import CLASSES, MAKERS, THEMES, clutter
from stages.data.scenes.sprites import Light, Sprite, draw, pose
from stages.data.scenes.textures import Palette

LEAST_OBJECTS, MOST_OBJECTS = 2, 7
LEAST_VISIBLE = 0.3  # of an object's own area, by later objects and the border
LEAST_AREA = 0.0022  # of the picture, visible
SMALLEST, LARGEST = 0.13, 0.8  # longer side of an object over the side of the picture
_TRIES = 12


@dataclass
class Placed:
    """An object in the picture. `label` is the class, or None for clutter; `visible` (H, W) float32 is what is left
    of its coverage from pixel (`x`, `y`) on after all that lies over it; `area` is its pixels before any was hidden."""

    label: str | None
    x: int
    y: int
    visible: np.ndarray
    area: int

    def mask(self) -> np.ndarray:
        """Visible pixels of the window (H, W) bool: the object gives more than half of their light."""
        return self.visible > 0.5


@dataclass(frozen=True)
class Scene:
    """`pixels` (side, side, 3) uint8 RGB; `placed` from the back to the front; `quality` for the JPEG file."""

    pixels: np.ndarray
    placed: list[Placed]
    theme: str | None
    quality: int


def compose(photos: Photos, rng: np.random.Generator) -> Scene:
    """Draws a scene. About half of the scenes have a theme, which prefers its own classes and its own photographs.

    Of the area of an object at least `LEAST_VISIBLE` is seen, whatever lies over it or the border cuts; where no
    such place is found the object is left out altogether, so nothing in the picture is half labelled.
    """
    side = photos.side
    theme = str(rng.choice(list(THEMES))) if rng.random() < 0.5 else None
    place = list(THEMES).index(theme) if theme and rng.random() < 0.8 else None
    canvas, feather = photos.background(rng, place)
    light = _light(rng, canvas)
    wanted = [_draw_class(rng, theme) for _ in range(int(rng.integers(LEAST_OBJECTS, MOST_OBJECTS + 1)))]
    things: list[str | None] = [*wanted, *[None] * int(rng.integers(1, 4))]
    sizes = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), len(things)))
    sizes[len(wanted) :] *= 0.6  # clutter hides less than it would
    sizes *= np.sqrt(min(1.0, 0.9 / (sizes**2).sum()))  # the things in a crowd are smaller
    upright = rng.random() < 0.75
    cast = (float(rng.normal(0, 0.8)), float(rng.uniform(-0.35, -0.12))) if upright and rng.random() < 0.5 else None
    placed: list[Placed] = []

    def add(label: str | None, size: float) -> None:
        sprite = _sprite(rng, label, size * side, upright, light, photos, feather)
        spot = _find_place(rng, sprite, label, size, placed, side)
        if spot is not None:
            _put(canvas, sprite, spot, label, placed, light, cast)

    for number in _far_to_near(rng, sizes):
        add(things[number], float(sizes[number]))
    while sum(thing.label is not None for thing in placed) < LEAST_OBJECTS:
        add(_draw_class(rng, theme), rng.uniform(SMALLEST, 0.3))
    return Scene(_develop(rng, canvas), placed, theme, int(rng.integers(84, 96)))


def _draw_class(rng: np.random.Generator, theme: str | None) -> str:
    names = list(THEMES[theme]) if theme and rng.random() < 0.8 else CLASSES
    return names[int(rng.integers(len(names)))]


def _light(rng: np.random.Generator, background: np.ndarray) -> Light:
    """A lamp from above whose colour and strength are partly those of the photograph."""
    towards = np.array([rng.uniform(-0.65, 0.65), rng.uniform(-0.7, -0.25), 0.75])
    towards /= np.linalg.norm(towards)
    mean = background.reshape(-1, 3).mean(axis=0)
    cast = (mean + 0.15) / (mean.mean() + 0.15)
    strength = 0.62 + 0.5 * mean.mean()
    color = strength * (0.45 + 0.55 * cast) * np.exp(rng.normal(0, 0.06, 3))
    return Light(towards.astype(np.float32), float(rng.uniform(0.42, 0.66)), color.astype(np.float32))


def _far_to_near(rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
    """Order of drawing: larger things are mostly nearer and so come later."""
    return np.argsort(np.log(sizes) + rng.normal(0, 0.45, len(sizes)), kind="stable")


def _sprite(
    rng: np.random.Generator,
    label: str | None,
    size: float,
    upright: bool,
    light: Light,
    photos: Photos,
    feather: float,
) -> Sprite:
    parts = (MAKERS[label] if label else clutter)(rng, Palette(rng))
    tumbled = not upright or rng.random() < 0.12 or label is None
    angle = rng.uniform(-np.pi, np.pi) if tumbled and rng.random() < 0.5 else rng.normal(0, 0.45 if tumbled else 0.13)
    shear, aspect = rng.normal(0, 0.06), float(np.exp(rng.normal(0, 0.07)))
    to_pixels = pose(parts, size, float(angle), float(shear), aspect, bool(rng.random() < 0.5))
    return draw(parts, to_pixels, light, photos.patch(rng), feather * rng.uniform(0.85, 1.15), rng)


def _find_place(
    rng: np.random.Generator, sprite: Sprite, label: str | None, size: float, placed: list[Placed], side: int
) -> tuple[int, int] | None:
    """A top left corner where this object and all the earlier ones stay visible enough, or None."""
    height, width = sprite.alpha.shape
    whole = sprite.alpha > 0.5
    area = int(whole.sum())
    for _ in range(_TRIES):
        x = int(rng.uniform(-0.02, 1.02) * side - width / 2)
        if rng.random() < 0.7:  # stands on something: near things lower in the picture
            y = int(side * np.clip(0.5 + 0.55 * size + rng.normal(0, 0.15), 0.3, 1.15)) - height
        else:
            y = int(rng.uniform(0.02, 0.98) * side - height / 2)
        shown = int(whole[max(-y, 0) : side - y, max(-x, 0) : side - x].sum())
        if label is not None and (shown < LEAST_VISIBLE * area or shown < LEAST_AREA * side**2):
            continue
        if all(_stays_visible(thing, sprite, x, y, side) for thing in placed if thing.label is not None):
            return x, y
    return None


def _overlap(thing: Placed, sprite: Sprite, x: int, y: int) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """The common pixels as slices of `thing.visible` and of the sprite at (x, y)."""
    height, width = thing.visible.shape
    x0, y0 = max(thing.x, x), max(thing.y, y)
    x1, y1 = min(thing.x + width, x + sprite.alpha.shape[1]), min(thing.y + height, y + sprite.alpha.shape[0])
    if x0 >= x1 or y0 >= y1:
        return None
    return (
        (slice(y0 - thing.y, y1 - thing.y), slice(x0 - thing.x, x1 - thing.x)),
        (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)),
    )


def _stays_visible(thing: Placed, sprite: Sprite, x: int, y: int, side: int) -> bool:
    both = _overlap(thing, sprite, x, y)
    if both is None:
        return True
    before = thing.visible[both[0]]
    hidden = int((before > 0.5).sum()) - int((before * (1 - sprite.alpha[both[1]]) > 0.5).sum())
    left = int(thing.mask().sum()) - hidden
    return left >= LEAST_VISIBLE * thing.area and left >= LEAST_AREA * side**2


def _put(
    canvas: np.ndarray, sprite: Sprite, spot: tuple[int, int], label: str | None,
    placed: list[Placed], light: Light, cast: tuple[float, float] | None,
) -> None:  # fmt: skip
    x, y = spot
    side = canvas.shape[0]
    for thing in placed:
        both = _overlap(thing, sprite, x, y)
        if both is not None:
            thing.visible[both[0]] *= 1 - sprite.alpha[both[1]]
    _shade(canvas, sprite, x, y, light, cast)
    x0, y0 = max(x, 0), max(y, 0)
    alpha = sprite.alpha[y0 - y : side - y, x0 - x : side - x]
    window = canvas[y0 : y0 + alpha.shape[0], x0 : x0 + alpha.shape[1]]
    nearby = 0.8 + 0.4 * float(window.mean())  # a thing in a dark corner is darker
    window *= 1 - alpha[..., None]
    window += nearby * sprite.color[y0 - y : side - y, x0 - x : side - x]
    placed.append(Placed(label, x0, y0, alpha.copy(), int((sprite.alpha > 0.5).sum())))


def _shade(canvas: np.ndarray, sprite: Sprite, x: int, y: int, light: Light, cast: tuple[float, float] | None) -> None:
    """Darkens what lies behind a sprite: a wide soft shadow away from the lamp and a narrow one where they touch.

    With `cast` = (slant, height) the wide one lies on the ground before or behind the foot of the object.
    """
    side = canvas.shape[0]
    height, width = sprite.alpha.shape
    size = max(height, width)
    pad = int(0.45 * size) + 3
    step = max(1, min(4, size // 24))
    grid = ((width + 2 * pad) // step + 1, (height + 2 * pad) // step + 1)
    foot = pad + height * 0.97
    shift = 0.09 * size
    if cast is not None:
        slant, flat = cast
        matrix = np.array([[1.0, slant * 0.35, pad - slant * 0.35 * height], [0.0, -flat, foot + flat * height]])
    else:
        matrix = np.array(
            [[1.0, 0.0, pad - shift * light.towards[0] * 1.6], [0.0, 1.0, pad - shift * light.towards[1]]]
        )
    wide = cv2.warpAffine(sprite.alpha, matrix / step, grid)
    wide = cv2.GaussianBlur(wide, (0, 0), max(0.045 * size / step, 0.7))
    close = cv2.warpAffine(sprite.alpha, np.array([[1.0, 0.0, pad], [0.0, 1.0, pad + 0.012 * size + 0.5]]) / step, grid)
    close = cv2.GaussianBlur(close, (0, 0), max(0.018 * size / step, 0.5))
    dark = 1 - (1 - (0.55 - 0.3 * light.ambient) * wide) * (1 - 0.3 * close)
    dark = cv2.resize(dark, (grid[0] * step, grid[1] * step))
    top, left = y - pad, x - pad
    y0, x0 = max(top, 0), max(left, 0)
    dark = dark[y0 - top : max(side - top, 0), x0 - left : max(side - left, 0)]
    canvas[y0 : y0 + dark.shape[0], x0 : x0 + dark.shape[1]] *= (1 - dark)[..., None]


def _develop(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """What lens and sensor do to the whole picture: slight blur, corners darker, contrast, noise; uint8."""
    side = canvas.shape[0]
    picture: np.ndarray = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.3, 0.5)))
    reach = np.linspace(-1, 1, side, dtype=np.float32) ** 2
    corners = 1 - rng.uniform(0.0, 0.12) * (reach + reach[:, None])
    contrast = rng.uniform(0.92, 1.08)
    picture *= (contrast * corners[..., None]).astype(np.float32)
    noise = rng.standard_normal((side, side, 3), dtype=np.float32)
    noise *= np.float32(rng.uniform(1.0, 4.0) / 255)
    picture += noise
    picture += np.float32(0.5 - 0.5 * contrast)
    picture *= 255
    return np.rint(np.clip(picture, 0, 255, out=picture)).astype(np.uint8)
