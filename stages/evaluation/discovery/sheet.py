"""`clusters.png`: what a network discovers on a few photos, beside what is labelled there."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.data.catalog import Catalog
from stages.data.masks.storage import Masks
from stages.data.objects import clear_objects
from stages.evaluation.metrics.best_overlap import object_box
from stages.evaluation.pictures import evenly_spread

_SIDE, _GAP, _CAPTION = 240, 8, 28  # pixels; the longer side of a picture
_PAPER, _INK, _LINE = (250, 250, 248), (30, 30, 30), (255, 255, 255)
_TINT = 0.6  # of a region's colour over the photo
_TURN = 0.618034  # of the colour circle from one region to the next: neighbours in number never look alike


def write_sheet(path: Path, catalog: Catalog, masks: Masks, rows: int = 6) -> None:
    """Draws a PNG: a row a photo, at most `rows` of them, evenly spread over the catalog.

    The first column is the photo with its labelled boxes, then comes one column a layer of `masks`: each region in a
    colour of its own, and the box that CorLoc asks about.
    """
    images = evenly_spread(len(catalog), rows)
    columns = ["labels", *masks.layers]
    pictures = [_pictures(catalog, masks, image) for image in images.tolist()]
    height = _CAPTION + sum(row[0].height + _GAP for row in pictures)
    sheet = Image.new("RGB", (len(columns) * (_SIDE + _GAP) + _GAP, height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for column, name in enumerate(columns):
        draw.text((_GAP + column * (_SIDE + _GAP) + _SIDE // 2, _CAPTION // 2), name, _INK, font, anchor="mm")
    top = _CAPTION
    for row in pictures:
        for column, picture in enumerate(row):
            sheet.paste(picture, (_GAP + column * (_SIDE + _GAP), top))
        top += row[0].height + _GAP
    sheet.save(path)


def _pictures(catalog: Catalog, masks: Masks, image: int) -> list[Image.Image]:
    photo = catalog.decode(image)
    scale = _SIDE / max(photo.size)
    small = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    objects = clear_objects(catalog.labels_of(image, image + 1))
    pictures = [_boxed(small, objects[["x0", "y0", "x1", "y1"]].to_numpy(float) * scale)]
    for layer in range(len(masks.layers)):
        labels = masks.labels(image, layer)
        colours = np.array([_colour(number) for number in range(int(labels.max()) + 1)])
        tint = Image.fromarray(colours[labels].astype(np.uint8)).resize(small.size, Image.Resampling.NEAREST)
        box = object_box(labels, photo.size) * scale
        pictures.append(_boxed(Image.blend(small, tint, _TINT), box[None]))
    return pictures


def _boxed(picture: Image.Image, boxes: np.ndarray) -> Image.Image:
    boxed = picture.copy()
    draw = ImageDraw.Draw(boxed)
    for x0, y0, x1, y1 in boxes.tolist():
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=_LINE, width=2)
    return boxed


def _colour(number: int) -> tuple[float, ...]:
    return tuple(255 * level for level in colorsys.hsv_to_rgb(number * _TURN % 1, 0.75, 0.95))
