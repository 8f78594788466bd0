"""preview.png: a few photos beside their nearest neighbours, to be seen at a glance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.correspondence.examples import Box, Example, badge_corners, choose_examples, scaled
from stages.data.catalog import Catalog

PREVIEW_FILE = "preview.png"

_ROWS = 6
_FINER = 2  # drawn this much larger and then reduced, for smooth lines and letters
# All in pixels of the drawing, _FINER times those of the file.
_CELL = (680, 476)  # largest size of a photo
_MARGIN, _GAP, _LEGEND, _TITLE = 56, 24, 240, 64
_LINE, _CASING, _BADGE, _INSET = 6, 12, 38, 12
_PAPER, _FRAME, _INK, _SOFT, _DARK = "#ffffff", "#f3f3f0", "#1b1c1e", "#6a6d72", "#16171a"


def write_preview(out: Path, photos: Catalog, retrieval: Path, likeness: np.ndarray) -> None:
    """Writes `preview.png` into `out`, which holds `pairs.parquet`. Arguments as for the gallery."""
    examples = choose_examples(out / "pairs.parquet", retrieval / "neighbors.parquet", photos, likeness, _ROWS)
    row = _TITLE + _CELL[1] + _MARGIN
    size = (2 * _MARGIN + 2 * (_CELL[0] + _GAP) + _LEGEND, _MARGIN + row * len(examples))
    canvas = Image.new("RGB", size, _PAPER)
    for number, example in enumerate(examples):
        _draw(canvas, example, photos, _MARGIN + number * row)
    canvas.resize((size[0] // _FINER, size[1] // _FINER), Image.Resampling.LANCZOS).save(out / PREVIEW_FILE)


def _draw(canvas: Image.Image, example: Example, photos: Catalog, top: int) -> None:
    pen = ImageDraw.Draw(canvas)
    title = f"{example.place:,} of {example.places:,}"
    pen.text((_MARGIN, top), title, _INK, ImageFont.load_default(32))
    detail = f"query {example.image}, nearest neighbour {example.neighbor}; mean similarity {example.likeness:.3f}"
    left = _MARGIN + 24 + pen.textlength(title, ImageFont.load_default(32))
    pen.text((left, top + 4), detail, _SOFT, ImageFont.load_default(27))

    top += _TITLE
    boxes = [(pair.box, pair.depth) for pair in example.pairs]
    neighbor_boxes = [(pair.neighbor_box, pair.neighbor_depth) for pair in example.pairs]
    colours = [pair.colour for pair in example.pairs]
    for column, (image, drawn) in enumerate(((example.image, boxes), (example.neighbor, neighbor_boxes))):
        left = _MARGIN + column * (_CELL[0] + _GAP)
        pen.rounded_rectangle((left, top, left + _CELL[0], top + _CELL[1]), 16, fill=_FRAME)
        picture = _picture(photos.decode(image), drawn, colours)
        canvas.paste(picture, (left + (_CELL[0] - picture.width) // 2, top + (_CELL[1] - picture.height) // 2))

    left = _MARGIN + 2 * (_CELL[0] + _GAP) + _GAP
    for line, pair in enumerate(example.pairs):
        y = top + line * 58
        _badge(pen, (left, y), pair.number, pair.colour)
        pen.text((left + _BADGE + 18, y + _BADGE / 2), f"{pair.similarity:.3f}", _INK, ImageFont.load_default(32), "lm")
    if example.more:
        y = top + len(example.pairs) * 58
        pen.text((left, y), f"and {example.more} more", _SOFT, ImageFont.load_default(27))


def _picture(photo: Image.Image, boxes: list[tuple[Box, int]], colours: list[str]) -> Image.Image:
    scale = min(_CELL[0] / photo.width, _CELL[1] / photo.height)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    picture = photo.resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture, "RGBA")
    outside = (_CASING - _LINE) // 2
    for (box, depth), colour in reversed(
        list(zip(boxes, colours, strict=True))
    ):  # the best pair last, so that it lies on top
        x0, y0, x1, y1 = scaled(box, depth, scale, _INSET)
        pen.rectangle((x0 - outside, y0 - outside, x1 + outside, y1 + outside), outline=(0, 0, 0, 140), width=_CASING)
        pen.rectangle((x0, y0, x1, y1), outline=colour, width=_LINE)
    corners = badge_corners([box for box, _ in boxes], scale, picture.size, _BADGE + 3)
    for number, (corner, colour) in enumerate(zip(corners, colours, strict=True), start=1):
        _badge(pen, corner, number, colour)
    return picture


def _badge(pen: ImageDraw.ImageDraw, corner: tuple[float, float], number: int, colour: str) -> None:
    x, y = corner
    pen.rounded_rectangle((x, y, x + _BADGE, y + _BADGE), 7, fill=colour)
    pen.text((x + _BADGE / 2, y + _BADGE / 2 + 1), str(number), _DARK, ImageFont.load_default(27), "mm")
