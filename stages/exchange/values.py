"""What an official file holds for one photo, checked: lists of whole numbers as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def box_rows(value: Any, where: str) -> np.ndarray:
    """(n, 4) int64 x0, y0, x1, y1 of a list of x, y, width, height.

    The official code writes the boxes of a photo that has one box as [x, y, w, h], without the outer list.
    """
    rows = _table(value, 4, where)
    return np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:]])


def pair_rows(value: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Both boxes of each pair, (p, 4) int64 x0, y0, x1, y1 each."""
    rows = _table(value, 8, where)
    return tuple(np.hstack([box[:, :2], box[:, :2] + box[:, 2:]]) for box in (rows[:, :4], rows[:, 4:]))  # type: ignore[return-value]


def check_inside(boxes: np.ndarray, size: tuple[int, int], where: str) -> None:
    """Raises ValueError unless all boxes have an area and lie inside a photo of `size` (width, height)."""
    width, height = size
    wrong = (boxes[:, :2] < 0).any(1) | (boxes[:, 2:] > [width, height]).any(1) | (boxes[:, 2:] <= boxes[:, :2]).any(1)
    if wrong.any():
        x0, y0, x1, y1 = boxes[wrong][0].tolist()
        raise ValueError(
            f"{where}: the box {[x0, y0, x1 - x0, y1 - y0]} (x, y, width, height) is not inside its photo, which has "
            f"{width} x {height} pixels. The file was made from other photos, or from others in this order."
        )


def places(value: Any, count: int, photos: int, where: str) -> np.ndarray:
    """(count,) int64: the first `count` of a list of places in the lists of the file.

    Raises:
        ValueError: they are fewer, no whole numbers, or not all from 0 to `photos` - 1.
    """
    array = _whole(value, where)
    if array.ndim != 1 or len(array) < count:
        raise ValueError(
            f"{where} holds {len(array)} neighbours where {count} are wanted. Set retrieval.neighbors to what the "
            "file has, or less."
        )
    outside = array[:count][(array[:count] < 0) | (array[:count] >= photos)]
    if len(outside):
        raise ValueError(
            f"{where} refers to place {outside[0]}, but the lists have {photos} places, from 0 on. These are "
            "places, not COCO's image ids."
        )
    return array[:count]


def _table(value: Any, width: int, where: str) -> np.ndarray:
    array = _whole(value, where)
    if array.size == 0:
        return np.empty((0, width), np.int64)
    if array.shape == (width,):
        array = array[None]
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{where} is not a list of rows of {width} numbers. Its first are {str(value)[:80]}.")
    return array


def _whole(value: Any, where: str) -> np.ndarray:
    """int64."""
    try:
        array = np.array(value)
    except ValueError:  # rows of different lengths
        array = np.array(None)
    if not isinstance(value, list) or (array.size and array.dtype.kind != "i"):
        raise ValueError(f"{where} holds {str(value)[:80]} where lists of whole numbers are due.")
    return array.astype(np.int64)
