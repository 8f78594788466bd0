"""Real photographs: read, cut into backgrounds and into patches for surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from stages.data.decode import decode

_THEMES = 4  # each has its own places


@lru_cache(maxsize=128)
def read_photo(path: Path, side: int) -> np.ndarray:
    """RGB uint8 (H, W, 3), reduced so that its shorter side is at most 2.5 times `side`, the side of a scene."""
    photo = np.asarray(decode(path))
    scale = 2.5 * side / min(photo.shape[:2])
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return photo


@dataclass(frozen=True)
class Photos:
    """Photographs for scenes of `side` pixels."""

    paths: tuple[Path, ...]
    side: int

    def pick(self, rng: np.random.Generator, theme: int | None = None) -> np.ndarray:
        """A random photograph; of those of a theme (every fourth, from number `theme` on) where that is given."""
        chosen = self.paths[theme % len(self.paths) :: _THEMES] if theme is not None else self.paths
        return read_photo(chosen[int(rng.integers(len(chosen)))], self.side)

    def patch(self, rng: np.random.Generator) -> np.ndarray:
        """Square uint8 cut of random size, for the surface of a part."""
        photo = self.pick(rng)
        height, width = photo.shape[:2]
        size = int(min(height, width) * rng.uniform(0.15, 0.5)) or 1
        y, x = int(rng.integers(0, height - size + 1)), int(rng.integers(0, width - size + 1))
        return photo[y : y + size, x : x + size]

    def background(self, rng: np.random.Generator, theme: int | None) -> tuple[np.ndarray, float]:
        """A cut of `side` pixels square, float32 RGB in [0, 1], with new light, and its sharpness.

        The sharpness is the sigma in pixels of the blur that the objects need to look no sharper than the photo.
        """
        photo = self.pick(rng, theme)
        height, width = photo.shape[:2]
        cut_h = min(height, width) * np.exp(rng.uniform(np.log(0.4), 0.0))
        cut_w = min(cut_h * np.exp(rng.uniform(-0.15, 0.15)), width)
        y, x = rng.uniform(0, height - cut_h), rng.uniform(0, width - cut_w)
        window = photo[int(y) : int(y + cut_h), int(x) : int(x + cut_w)]
        enlarges = self.side / cut_h
        method = cv2.INTER_CUBIC if enlarges > 1 else cv2.INTER_AREA
        picture = cv2.resize(window, (self.side, self.side), interpolation=method)
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        picture = np.ascontiguousarray(picture).astype(np.float32) / 255
        gain = np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.04, 3))
        picture = cv2.pow(picture, float(np.exp(rng.normal(0, 0.15)))) * gain.astype(np.float32)
        defocus = float(rng.uniform(0.0, 1.1)) if rng.random() < 0.4 else 0.0
        if defocus > 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), defocus)
        return np.clip(picture, 0, 1), 0.45 + 0.35 * max(enlarges - 1, 0.0) + 0.3 * defocus
