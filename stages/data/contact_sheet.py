"""`views.png`: what the network saw at step 0, for a person to look at before hours of training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

_MAX_ROWS = 8
_MIN_SIDE = 128  # small views are enlarged by whole factors, so that every pixel stays a crisp square
_GAP, _MARGIN, _CAPTION = 10, 24, 44
_PAPER, _INK, _FAINT = (250, 250, 248), (30, 30, 30), (130, 130, 130)


def views_sheet(batch: Mapping[str, Tensor], path: Path) -> None:
    """Draws the first samples of `batch` into a PNG: a row a sample (at most 8), a column a view.

    Args:
        batch: name of the view -> (B, 3, S, S) uint8 RGB; S may differ between views and is shown to scale.
    """
    rows = min(_MAX_ROWS, len(next(iter(batch.values()))))
    largest = max(views.shape[-1] for views in batch.values())
    zoom = -(-_MIN_SIDE // largest)
    row_height = largest * zoom + _GAP
    name_font, size_font = ImageFont.load_default(size=16), ImageFont.load_default(size=12)
    widths = [
        max(views.shape[-1] * zoom, round(name_font.getlength(name)), round(size_font.getlength(_size(views))))
        for name, views in batch.items()
    ]

    sheet = Image.new(
        "RGB",
        (2 * _MARGIN + sum(widths) + _GAP * (len(widths) - 1), 2 * _MARGIN + _CAPTION + rows * row_height - _GAP),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    left = _MARGIN
    for (name, views), width in zip(batch.items(), widths, strict=True):
        center = left + width // 2
        draw.text((center, _MARGIN), name, _INK, name_font, anchor="mt")
        draw.text((center, _MARGIN + 20), _size(views), _FAINT, size_font, anchor="mt")
        side = views.shape[-1] * zoom
        for row in range(rows):
            picture = to_pil_image(views[row].cpu()).resize((side, side), Image.Resampling.NEAREST)
            top = _MARGIN + _CAPTION + row * row_height + (row_height - _GAP - side) // 2
            sheet.paste(picture, (center - side // 2, top))
        left += width + _GAP
    sheet.save(path)


def _size(views: Tensor) -> str:
    return f"{views.shape[-1]} x {views.shape[-1]} px"
