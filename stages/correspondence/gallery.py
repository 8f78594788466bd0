"""gallery.html: photos beside their nearest neighbours, with their pairs of boxes, in one file without a network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from stages.correspondence.examples import COLOURS, Box, Example, badge_corners, choose_examples, scaled
from stages.data.catalog import Catalog

GALLERY_FILE = "gallery.html"

# Tried in turn until the file stays below the limit: longer side in pixels, JPEG quality.
_THUMBNAILS = ((520, 82), (440, 78), (360, 74), (280, 68), (200, 60), (120, 50))
_MAX_BYTES = 2_000_000  # of pictures; base64 and the text of up to some 30 photos keep the file below 3 MB
_CROP_SIDE = 58.0
_FRAME, _INSET, _BADGE = (427, 304), 5.0, 20.0  # as in the template
_BINS = 40


@dataclass(frozen=True)
class _Thumbnail:
    jpeg: bytes
    width: int
    height: int
    scale: float

    @property
    def pixel(self) -> float:
        """How many of its pixels one pixel of the page covers, as the template lays it out on a wide screen."""
        return max(self.width / _FRAME[0], self.height / _FRAME[1])

    @property
    def uri(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


def write_gallery(
    out: Path,
    photos: Catalog,
    retrieval: Path,
    likeness: np.ndarray,
    *,
    settings: Mapping[str, Any],
    metrics: Mapping[str, float],
    count: int,
) -> None:
    """Writes `gallery.html` into `out`, which holds `pairs.parquet`.

    Args:
        likeness: (N,) mean similarity of each photo's pairs with the nearest neighbour that it has any with.
        settings, metrics: shown above the pictures.
        count: photos shown, spread evenly from the best to the worst.
    """
    examples = choose_examples(out / "pairs.parquet", retrieval / "neighbors.parquet", photos, likeness, count)
    shown = sorted({image for example in examples for image in (example.image, example.neighbor)})
    thumbnails = dict(zip(shown, _thumbnails(photos, shown), strict=True))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("gallery_template.html").render(
        examples=[_card(example, thumbnails) for example in examples],
        thumbnails=thumbnails,
        settings=settings,
        metrics=metrics,
        histogram=_histogram(likeness, [example.likeness for example in examples]),
        numbers=range(1, len(COLOURS) + 1),
    )
    (out / GALLERY_FILE).write_text(page, encoding="utf-8")


def _thumbnails(photos: Catalog, images: Iterable[int]) -> list[_Thumbnail]:
    largest = [_opened(photos, image, _THUMBNAILS[0][0]) for image in images]
    for side, quality in _THUMBNAILS:
        thumbnails = [_encoded(photo, original, side, quality) for photo, original in largest]
        if sum(len(thumbnail.jpeg) for thumbnail in thumbnails) <= _MAX_BYTES:
            break
    return thumbnails


def _opened(photos: Catalog, image: int, side: int) -> tuple[Image.Image, int]:
    """The photo with a longer side of `side` at most, and the width of the original."""
    photo = photos.decode(image)
    original = photo.width
    photo.thumbnail((side, side), Image.Resampling.LANCZOS)
    return photo, original


def _encoded(photo: Image.Image, original: int, side: int, quality: int) -> _Thumbnail:
    small = photo.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality, optimize=True)
    return _Thumbnail(file.getvalue(), small.width, small.height, small.width / original)


def _card(example: Example, thumbnails: Mapping[int, _Thumbnail]) -> dict[str, Any]:
    query, neighbor = thumbnails[example.image], thumbnails[example.neighbor]
    drawn = _rectangles([(pair.box, pair.depth) for pair in example.pairs], query)
    neighbor_drawn = _rectangles([(pair.neighbor_box, pair.neighbor_depth) for pair in example.pairs], neighbor)
    pairs = [
        {
            "number": pair.number,
            "colour": pair.colour,
            "similarity": pair.similarity,
            "box": box,
            "neighbor_box": neighbor_box,
            "crop": _crop(pair.box, query),
            "neighbor_crop": _crop(pair.neighbor_box, neighbor),
        }
        for pair, box, neighbor_box in zip(example.pairs, drawn, neighbor_drawn, strict=True)
    ]
    return {"example": example, "query": query, "neighbor": neighbor, "pairs": pairs}


def _rectangles(boxes: Sequence[tuple[Box, int]], thumbnail: _Thumbnail) -> list[dict[str, float]]:
    """Where to draw each (box, depth), and the badge with its number."""
    size = (thumbnail.width, thumbnail.height)
    badges = badge_corners([box for box, _ in boxes], thumbnail.scale, size, _BADGE * thumbnail.pixel)
    rectangles = []
    for (box, depth), (badge_x, badge_y) in zip(boxes, badges, strict=True):
        x0, y0, x1, y1 = scaled(box, depth, thumbnail.scale, _INSET * thumbnail.pixel)
        rectangle = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
        rectangles.append(rectangle | {"badge_x": badge_x, "badge_y": badge_y})
    return rectangles


def _crop(box: Box, thumbnail: _Thumbnail) -> dict[str, float]:
    """How to show one box of a thumbnail that is the background of an element: all in CSS pixels."""
    x0, y0, x1, y1 = scaled(box, 0, thumbnail.scale, 0)
    zoom = _CROP_SIDE / max(x1 - x0, y1 - y0)
    return {
        "width": (x1 - x0) * zoom,
        "height": (y1 - y0) * zoom,
        "x": -x0 * zoom,
        "y": -y0 * zoom,
        "picture_width": thumbnail.width * zoom,
        "picture_height": thumbnail.height * zoom,
    }


def _histogram(likeness: np.ndarray, shown: list[float]) -> dict[str, Any]:
    """Photos by the similarity of their pairs, as bars of height 0 .. 1, and where those shown stand, 0 .. 1.

    Nothing where similarities are NaN, as those of imported pairs.
    """
    if np.isnan(likeness).all():
        return {"bars": [], "marks": [], "low": math.nan, "high": math.nan}
    low, high = float(likeness.min()), float(likeness.max())
    if high - low < 1e-6:
        low, high = low - 0.01, high + 0.01
    counts = np.histogram(likeness, _BINS, (low, high))[0]
    marks = [(value - low) / (high - low) for value in shown]
    return {"bars": (counts / counts.max()).tolist(), "marks": marks, "low": low, "high": high}
