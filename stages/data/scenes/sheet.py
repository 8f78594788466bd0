"""The contact sheet: scenes as they are on the left, the same with their labels on the right."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.data.scenes.classes import CLASSES

COLUMNS, ROWS, TILE, GAP, MARGIN = 4, 6, 224, 8, 24


def contact_sheet(pictures: Sequence[np.ndarray], labels: Sequence[Sequence[dict[str, Any]]]) -> Image.Image:
    """Draws up to `COLUMNS * ROWS` scenes, uint8 RGB squares of one side, and their annotations."""
    block = COLUMNS * TILE + (COLUMNS - 1) * GAP
    rows = min(ROWS, -(-len(pictures) // COLUMNS))
    sheet = Image.new("RGB", (2 * block + 3 * MARGIN, rows * (TILE + GAP) - GAP + 2 * MARGIN), (250, 250, 248))
    for number, (picture, found) in enumerate(zip(pictures[: COLUMNS * ROWS], labels, strict=False)):
        row, column = divmod(number, COLUMNS)
        x, y = MARGIN + column * (TILE + GAP), MARGIN + row * (TILE + GAP)
        large = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS)
        sheet.paste(large, (x, y))
        sheet.paste(_annotated(large, found, TILE / picture.shape[0]), (x + block + MARGIN, y))
    return sheet


def _annotated(picture: Image.Image, annotations: Sequence[dict[str, Any]], scale: float) -> Image.Image:
    """Outline of each mask, its box and its class name."""
    pixels = np.array(picture)
    for label in annotations:
        mask = cv2.resize(
            _decode(label["segmentation"]).astype(np.uint8), pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR
        )
        outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        tint = np.array(_color(label["category_id"]))
        pixels[mask > 0] = pixels[mask > 0] * 0.72 + tint * 0.28
        cv2.drawContours(pixels, outlines, -1, _color(label["category_id"]), 1, cv2.LINE_AA)
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(10)
    for label in annotations:
        x, y, width, height = (round(scale * value) for value in label["bbox"])
        color = _color(label["category_id"])
        name = CLASSES[label["category_id"] - 1]
        draw.rectangle((x, y, min(x + width, TILE) - 1, min(y + height, TILE) - 1), outline=color)
        text_x = min(x, TILE - int(draw.textlength(name, font)) - 6)
        text_y = y - 13 if y >= 13 else y
        draw.rectangle((text_x, text_y, text_x + draw.textlength(name, font) + 5, text_y + 12), fill=color)
        draw.text((text_x + 3, text_y), name, fill=(20, 20, 20), font=font)
    return picture


def _decode(code: dict[str, Any]) -> np.ndarray:
    height, width = code["size"]
    values = np.arange(len(code["counts"])) % 2
    return np.repeat(values, code["counts"]).reshape(width, height).T


def _color(category: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((category * 0.381966) % 1, 0.6, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)
