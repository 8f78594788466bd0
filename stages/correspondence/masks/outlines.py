"""Masks as COCO writes them: polygons, or run lengths as a list or as text (cocodataset.org/#format-data)."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.data.masks.segmentation import Size


def mask_of(segmentation: Any, size: Size) -> np.ndarray:
    """The mask of an object in a photo of `size`.

    Args:
        segmentation: as in COCO's JSON. A list of polygons [x0, y0, x1, y1, ...], which are united; or a dictionary
            with `size`, [height, width], and `counts`, lengths of the runs outside and inside by turns, down the
            columns, as a list or as the text that pycocotools makes of it.

    Returns:
        (H, W) bool. Pixels belong to a polygon if their centre does, by the even-odd rule. (pycocotools traces the
        outline on a grid five times as fine; the two differ in some pixels along it.)

    Raises:
        ValueError: it is neither, or of a photo of another size.
    """
    width, height = size
    if isinstance(segmentation, dict):
        return _mask_of_counts(segmentation, size)
    mask = np.zeros((height, width), bool)
    if not isinstance(segmentation, list):
        raise ValueError(
            f"a segmentation is a list of polygons or a dictionary of run lengths, not {segmentation!r:.80}"
        )
    for polygon in segmentation:
        try:
            corners = np.array(polygon, np.float64).reshape(-1, 2)
        except (ValueError, TypeError):
            corners = np.empty((0, 2))
        if not len(corners) or not np.isfinite(corners).all():
            raise ValueError(f"a polygon is a list of numbers x0, y0, x1, y1, ..., not {polygon!r:.80}")
        _fill(mask, corners)
    return mask


def _fill(mask: np.ndarray, corners: np.ndarray) -> None:
    """Adds the polygon with these (n, 2) corners to the mask.

    Each row of pixel centres is cut by edges at some x; a pixel is inside if the cuts left of it are odd in number.
    """
    height, width = mask.shape
    (x0, y0), (x1, y1) = corners.T, np.roll(corners, -1, axis=0).T
    # Of each edge the rows whose centres it crosses: ends count half-open, so that a corner is crossed once.
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    counts = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64) - first
    if not counts.any():
        return
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    cut = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.ceil(cut - 0.5), 0, width).astype(np.int64)
    top, bottom, left, right = row.min(), row.max() + 1, column.min(), column.max()
    changes = np.zeros((bottom - top, right - left + 1), bool)
    np.logical_xor.at(changes, (row - top, column - left), True)
    mask[top:bottom, left:right] |= np.logical_xor.accumulate(changes, axis=1)[:, :-1]


def _mask_of_counts(segmentation: dict[str, Any], size: Size) -> np.ndarray:
    width, height = size
    if segmentation.get("size") != [height, width]:
        raise ValueError(
            f"a mask of `size` {segmentation.get('size')} for a photo of height {height} and width {width}"
        )
    counts = segmentation.get("counts")
    lengths = _counts_of_text(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(isinstance(each, int) and each >= 0 for each in lengths):
        raise ValueError(f"`counts` must be run lengths, whole numbers from 0 on, not {counts!r:.80}")
    if sum(lengths) != width * height:
        raise ValueError(f"`counts` of {sum(lengths)} pixels for a mask of {width} x {height} = {width * height}")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, lengths).reshape(width, height).T)


def _counts_of_text(text: str) -> list[int]:
    """Run lengths from pycocotools' text: six bits a character from '0' on, five of them the number's, lowest first,
    the sixth says that more follow; two's complement. From the fourth length on, differences to the last but one."""
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64:
            raise ValueError(f"`counts` holds the character {character!r}, which pycocotools does not write")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)  # the sign
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
