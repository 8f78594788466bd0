"""The sixteen classes, in four themes, and the unlabelled clutter among them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stages.data.scenes import kitchen, living, outdoors, study
from stages.data.scenes.shapes import blob, box, ellipse, ribbon, spline
from stages.data.scenes.sprites import Part
from stages.data.scenes.textures import Palette

Maker = Callable[[np.random.Generator, Palette], list[Part]]

THEMES: dict[str, dict[str, Maker]] = {
    "kitchen": {"mug": kitchen.mug, "teapot": kitchen.teapot, "bottle": kitchen.bottle, "fish": kitchen.fish},
    "study": {"book": study.book, "lamp": study.lamp, "clock": study.clock, "guitar": study.guitar},
    "living": {"chair": living.chair, "cushion": living.cushion, "plant": living.plant, "vase": living.vase},
    "outdoors": {"kite": outdoors.kite, "boat": outdoors.boat, "umbrella": outdoors.umbrella, "wheel": outdoors.wheel},
}
MAKERS: dict[str, Maker] = {name: maker for theme in THEMES.values() for name, maker in theme.items()}
CLASSES: tuple[str, ...] = tuple(MAKERS)  # category id = place + 1
THEME_OF: dict[str, str] = {name: theme for theme, makers in THEMES.items() for name in makers}


def clutter(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """A thing that is no class: a lump cut from a photo or painted, smooth, angular or long, with a part or two on it.

    Clutter is drawn, lit, softened and shaded like the labelled things, so neither a seam nor a shadow marks those.
    """
    coat = paint(0, *["photo"] * 5, "print", "mottle", "wood", "stripes", "checks", "weave", period=0.12, gloss=0.3)
    kind = rng.integers(0, 4)
    if kind == 0:
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8))))
        shape = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.35, 0.55, (len(angle), 1))
    elif kind == 1:
        path = spline(np.cumsum(rng.normal((0.12, 0), 0.3, (4, 2)), axis=0))
        shape = ribbon(path, rng.uniform(0.1, 0.3))
    else:
        shape = blob(rng, rng.uniform(0.1, 0.5))
    parts = [Part([shape], coat, roundness=float(rng.uniform(0.1, 0.7)))]
    middle, half = (shape.max(axis=0) + shape.min(axis=0)) / 2, (shape.max(axis=0) - shape.min(axis=0)) / 2
    for number in range(int(rng.integers(0, 3))):
        x, y = middle + half * rng.uniform(-0.3, 0.3, 2)
        w, h = half * rng.uniform(0.06, 0.4, 2)
        piece = ellipse(x, y, w, h) if rng.random() < 0.5 else box(x - w, y - h, x + w, y + h, 0.03)
        material = paint(1 + number % 3, "plain", "photo", "stripes", "dots", gloss=0.5)
        parts.append(Part([piece], material, roundness=float(rng.uniform(0.1, 1.0))))
    return parts
