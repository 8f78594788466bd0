"""Materials: what the surface of a part looks like before light falls on it."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (u, v) in object units -> mix in [0, 1]


@dataclass(frozen=True)
class Material:
    """Colours are RGB in [0, 1]. `pattern` mixes `color` with `accent`; its period is `period` object units."""

    color: np.ndarray
    accent: np.ndarray
    pattern: str = "plain"
    period: float = 0.1
    angle: float = 0.0  # of the pattern, radians
    gloss: float = 0.15  # height of the highlight, in [0, 1]
    glow: float = 0.0  # light of its own, in [0, 1]

    def but(self, **changes: object) -> Material:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def darker(self, factor: float) -> Material:
        """The same surface with its colours scaled by `factor`."""
        return replace(self, color=self.color * factor, accent=self.accent * factor)


def random_color(rng: np.random.Generator) -> np.ndarray:
    """RGB in [0, 1]: any hue; muted, strong and nearly grey colours about as often as in furnished rooms."""
    saturation = rng.uniform(0.0, 0.12) if rng.random() < 0.25 else rng.beta(2.2, 1.8)
    value = rng.uniform(0.12, 0.97)
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value), dtype=np.float32)


class Palette:
    """The colours of one object. No class has colours of its own, so a colour never tells a class."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._colors = [random_color(rng) for _ in range(4)]

    def __call__(self, number: int, *patterns: str, period: float = 0.1, gloss: float = 0.15) -> Material:
        """Material `number` (0 the main one, 1 and 2 trim, 3 a dark or light part) with one of `patterns`."""
        rng = self._rng
        return Material(
            color=self._colors[number],
            accent=self._colors[(number + int(rng.integers(1, 4))) % 4],
            pattern=str(rng.choice(patterns)) if patterns else "plain",
            period=period * float(np.exp(rng.normal(0, 0.25))),
            angle=float(rng.choice([0.0, np.pi / 2, np.pi / 4]) + rng.normal(0, 0.04)),
            gloss=gloss * float(rng.uniform(0.4, 1.6)),
        )


@cache
def noise_tile() -> np.ndarray:
    """(256, 256) float32 that tiles: five octaves of smooth noise, mean 0, standard deviation 1. Always the same."""
    rng = np.random.default_rng(20)
    tile = np.zeros((256, 256), np.float32)
    for octave, weight in zip((4, 8, 16, 32, 64), (1.0, 0.8, 0.65, 0.5, 0.4), strict=True):
        coarse = np.pad(rng.standard_normal((octave, octave)).astype(np.float32), 2, mode="wrap")
        fine = cv2.resize(coarse, None, fx=256 / octave, fy=256 / octave, interpolation=cv2.INTER_CUBIC)
        edge = 2 * 256 // octave
        tile += weight * fine[edge : edge + 256, edge : edge + 256]
    return (tile - tile.mean()) / tile.std()


def _soft(wave: np.ndarray, sharpness: float = 4.0) -> np.ndarray:
    """A wave in [-1, 1] to a mix in [0, 1] whose borders are smooth over a few pixels."""
    return np.clip(wave * sharpness + 0.5, 0, 1)


def _lattice_dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    du, dv = u - np.rint(u), v - np.rint(v)
    return _soft(0.09 - du * du - dv * dv, 18.0)


def _scales(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Rows of overlapping arcs, every second row shifted by half a scale."""
    row = np.floor(v)
    du = (u + 0.5 * (row % 2)) % 1.0 - 0.5
    return np.clip(((v - row) ** 2 + 2.2 * du * du) * 0.9, 0, 1)


TAU = np.float32(2 * np.pi)
PATTERNS: dict[str, Pattern] = {
    "stripes": lambda u, v: _soft(np.sin(TAU * v)),
    "pinstripes": lambda u, v: _soft(np.sin(TAU * v) - 0.8),
    "checks": lambda u, v: 0.5 * _soft(np.sin(TAU * u)) + 0.5 * _soft(np.sin(TAU * v)),
    "chess": lambda u, v: _soft(np.sin(TAU * u) * np.sin(TAU * v), 6.0),
    "dots": _lattice_dots,
    "zigzag": lambda u, v: _soft(np.sin(TAU * (v + np.abs(u - np.rint(u))))),
    "scales": _scales,
    "weave": lambda u, v: 0.25 + 0.25 * np.sin(2 * TAU * u) * np.sin(2 * TAU * v),
    "pleats": lambda u, v: 0.22 + 0.22 * np.sin(TAU * u),
}


def albedo(
    material: Material, u: np.ndarray, v: np.ndarray, to_object: np.ndarray, photo: np.ndarray, offset: np.ndarray
) -> np.ndarray:
    """Colours of a part, (H, W, 3) float32 in [0, 1].

    `u`, `v` (H, W) and the 2x3 matrix `to_object` both give object units of a pixel; `photo` is a uint8 patch, used by
    the pattern `photo` (its own colours) and `print` (its light and dark on the part's colour); `offset` (2,) shifts
    the pattern.
    """
    if material.pattern == "plain":
        return np.broadcast_to(material.color, (*u.shape, 3))
    if material.pattern in ("photo", "print"):
        scale = 0.5 * max(photo.shape[:2])  # an object of size 1 shows half of the patch
        pixels = _sample(photo, to_object, u.shape, scale, offset * photo.shape[0]).astype(np.float32) / 255
        if material.pattern == "photo":
            return pixels
        grey = pixels @ np.array([0.3, 0.59, 0.11], np.float32)
        mix = np.clip((grey - grey.mean()) / (grey.std() + 0.05) * 0.25 + 0.5, 0, 1)
    elif material.pattern in ("wood", "mottle", "speckle"):
        stretch = np.array([[0.22], [1.0]]) if material.pattern == "wood" else np.ones((2, 1))
        noise = _sample(noise_tile(), to_object * stretch, u.shape, 6.0 / material.period, offset * 256)
        if material.pattern == "wood":
            mix = 0.3 + 0.3 * np.sin(2.5 * noise + TAU * v / (0.6 * material.period))
        else:
            mix = np.clip(0.35 + 0.25 * noise, 0, 0.8) if material.pattern == "mottle" else _soft(noise - 1.0, 2.0)
    else:
        cos, sin = (
            np.float32(np.cos(material.angle) / material.period),
            np.float32(np.sin(material.angle) / material.period),
        )
        mix = PATTERNS[material.pattern](cos * u - sin * v + offset[0], sin * u + cos * v + offset[1])
    return material.color + mix[..., None].astype(np.float32) * (material.accent - material.color)


def _sample(
    source: np.ndarray, to_object: np.ndarray, shape: tuple[int, ...], scale: float, shift: np.ndarray
) -> np.ndarray:
    """`source` seen through the object: `scale` of its pixels are one object unit. Beyond its border it is mirrored."""
    matrix = to_object * scale
    matrix[:, 2] += shift
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(source, matrix, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REFLECT)
