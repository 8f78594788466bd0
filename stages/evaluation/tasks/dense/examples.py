"""`examples.png`: some test photos, what was labelled or measured there, and what was predicted, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

EXAMPLES_FILE = "examples.png"
SHOWN = 8  # photos
_WIDTH, _HEIGHT = 240, 180  # that a picture fits into
_GAP, _MARGIN, _CAPTION = 10, 24, 30
_PAPER, _INK = (250, 250, 248), (30, 30, 30)
_VOID = (224, 224, 192)  # of pixels without a class, as PASCAL draws them

# Of a photo, of what is true, and of what was predicted: (H, W, 3) uint8 RGB each, of any sizes.
Row = tuple[np.ndarray, np.ndarray, np.ndarray]


def class_colours(classes: np.ndarray, number: int) -> np.ndarray:
    """(H, W) of an integer type -> (H, W, 3) uint8: a colour for each of `number` classes, another one for the rest.

    PASCAL's colours: the bits of the class, three by three, are the highest bits of red, green and blue.
    """
    palette = np.zeros((number + 1, 3), np.uint8)
    for k in range(number):
        for bit in range(8):
            for channel in range(3):
                palette[k, channel] |= (k >> (3 * bit + channel) & 1) << (7 - bit)
    palette[number] = _VOID
    return palette[np.minimum(classes, number)]


def depth_colours(depth: np.ndarray, farthest: float) -> np.ndarray:
    """(H, W) metres -> (H, W, 3) uint8: from yellow (near) to blue (`farthest` and beyond), white where 0."""
    nearness = 255 * (1 - np.clip(depth / farthest, 0, 1))
    coloured = cv2.applyColorMap(nearness.astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()
    coloured[depth <= 0] = 255
    return coloured


def save_examples(rows: Sequence[Row], titles: tuple[str, str, str], path: Path) -> None:
    """One row a photo, a column for each of `titles`."""
    size = (
        2 * _MARGIN + len(titles) * (_WIDTH + _GAP) - _GAP,
        2 * _MARGIN + _CAPTION + len(rows) * (_HEIGHT + _GAP) - _GAP,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for column, title in enumerate(titles):
        left = _MARGIN + column * (_WIDTH + _GAP)
        draw.text((left + _WIDTH // 2, _MARGIN), title, _INK, font, anchor="mt")
        for row, pictures in enumerate(rows):
            picture = _fitted(pictures[column])
            top = _MARGIN + _CAPTION + row * (_HEIGHT + _GAP)
            sheet.paste(picture, (left + (_WIDTH - picture.width) // 2, top + (_HEIGHT - picture.height) // 2))
    sheet.save(path)


def _fitted(pixels: np.ndarray) -> Image.Image:
    height, width = pixels.shape[:2]
    scale = min(_WIDTH / width, _HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
