"""The pictures that evaluation shows to encoders, each photo decoded once for all of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
import torch
from torch import Tensor

from stages.data.catalog import Catalog
from stages.data.render import Photo, render
from stages.data.views import View, plain_view
from stages.process import ordered_map

_PHOTOS_A_TASK = 8
_TASKS_AHEAD = 16


def central_views(catalog: Catalog, images: np.ndarray, *, resize: int, crop: int) -> list[list[View]]:
    """The middle of each of `images` (n,), as `stages.data.loading.photo_loader` shows it: one view a photo.

    Shorter side to `resize` and centre `crop` are one operation here, so that any subset of a catalog can be shown; the
    pixels of the two agree but for rounding and the outermost rows.
    """
    views = []
    for image in images.tolist():
        width, height = catalog.sizes[image].tolist()
        half = min(width, height) * crop / resize / 2
        box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        views.append([plain_view(image, box, crop)])
    return views


def evenly_spread(total: int, at_most: int) -> np.ndarray:
    """At most `at_most` of the numbers 0 .. total - 1, evenly spread, so that a sorted data set is covered. int64."""
    return np.unique(np.linspace(0, total - 1, min(total, at_most)).round().astype(np.int64))


def draw(pool: Executor, catalog: Catalog, views: Sequence[Sequence[View]]) -> Iterator[Tensor]:
    """Pixels of `views` in order, (B, 3, S, S) uint8 RGB a batch; each inner sequence holds the views of one photo.

    Raises:
        RuntimeError: a photo can't be read any more.
    """
    fn = functools.partial(_draw, catalog)
    tasks = (views[start : start + _PHOTOS_A_TASK] for start in range(0, len(views), _PHOTOS_A_TASK))
    for pixels in ordered_map(pool, fn, tasks, window=_TASKS_AHEAD):
        yield torch.from_numpy(pixels)


def _draw(catalog: Catalog, views: Sequence[Sequence[View]]) -> np.ndarray:
    pictures: list[np.ndarray] = []
    for of_photo in views:
        named = {str(number): view for number, view in enumerate(of_photo)}
        try:
            drawn = render(named, lambda image, _: Photo(catalog.pixels(image)))
        except Exception as error:  # a damaged file may raise nearly anything inside its decoder
            raise RuntimeError(
                f"{catalog.place(of_photo[0].image)} could be used when the catalog was made, and no longer can: "
                f"{type(error).__name__}: {error}. Bring the file back or make the catalog again."
            ) from error
        pictures.extend(drawn[name].numpy() for name in named)
    return np.stack(pictures)
