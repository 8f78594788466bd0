"""What a data worker hands over when the device draws: the photos of a batch in one buffer, and its views as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from stages.data.render import BLUR_RADIUS, Photo, crop_window, largest_reduction
from stages.data.views import View

# Views that are drawn together: enough to keep a GPU busy, few enough to need no more than some 400 MB there.
_ROWS = 128
_BLENDS = 5  # the four colour operations, and gray


class Window(NamedTuple):
    """Where a view's crop lies in the buffer, which holds photos row by row, three bytes a pixel."""

    start: int  # its first byte
    row_bytes: int  # from one row to the next
    height: int
    width: int


class Sheet(NamedTuple):
    """n views of one size, in tables with a row a view.

    Brightness, contrast, saturation and gray are blends of three pictures; the hue is turned between two blends.
    """

    size: int
    windows: np.ndarray  # (n, 4) int64, the fields of `Window`
    flips: np.ndarray  # (n, 1, 1, 1) bool
    blends: np.ndarray  # (5, n, 3) float32: weights of the picture, of its mean luma, of its luma
    hue_rows: np.ndarray  # (turned,) int64: the rows to turn after the first blend, then those after the second, ...
    hue_counts: list[int]  # (5,) how many these are
    hue_turns: np.ndarray  # (turned,) float32, 1 is the whole colour circle
    blur_rows: np.ndarray  # (blurred,) int64
    blur_kernels: np.ndarray  # (blurred, taps) float32
    solarize_rows: np.ndarray  # (solarized,) int64


class Buffer:
    """Photos, or what is shown of them, one after another in memory that processes share."""

    def __init__(self, capacity: int) -> None:
        self._bytes, self._used = empty_bytes(capacity), 0

    @property
    def pixels(self) -> Tensor:
        """(bytes,) uint8: all that was added."""
        return self._bytes[: self._used]

    def add(self, views: dict[str, View], open_photo: Callable[[int, int], Photo], reduce: bool) -> dict[str, Window]:
        """Opens the photos that `views` show and adds of each the smallest rectangle that holds all that they show.

        Args:
            open_photo: see `stages.data.render.render`.
            reduce: let photos be opened at a reduced scale, as `render` does it.
        """
        windows = {}
        for image in {view.image: None for view in views.values()}:
            shown = {name: view for name, view in views.items() if view.image == image}
            photo = open_photo(image, largest_reduction(shown.values()) if reduce else 1)
            boxes = {name: crop_window(view.box, photo) for name, view in shown.items()}
            left, top, right, bottom = np.array(list(boxes.values())).T
            piece = photo.pixels[top.min() : bottom.max(), left.min() : right.max()]
            start, row_bytes = self._append(piece), 3 * piece.shape[1]
            for name, (x0, y0, x1, y1) in boxes.items():
                first = start + int(y0 - top.min()) * row_bytes + 3 * int(x0 - left.min())
                windows[name] = Window(first, row_bytes, y1 - y0, x1 - x0)
        return windows

    def _append(self, piece: np.ndarray) -> int:
        start, self._used = self._used, self._used + piece.size
        if self._used > len(self._bytes):
            larger = empty_bytes(max(self._used, 3 * len(self._bytes) // 2))
            larger[:start] = self._bytes[:start]
            self._bytes = larger
        self._bytes.numpy()[start : self._used].reshape(piece.shape)[:] = piece
        return start


def empty_bytes(*shape: int) -> Tensor:
    """uint8, for a worker in shared memory: what it writes there needs no further copy to be handed over."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    # As PyTorch's own collation does it; there is no public way.
    storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def make_sheets(samples: Sequence[tuple[dict[str, View], dict[str, Window]]]) -> list[Sheet]:
    """Tables of the views of all samples, which have the same names and sizes.

    Sheets go through the sizes in the order in which these first appear among the views, within a size through the
    views' names, and within a name through the samples.
    """
    rows: dict[int, list[tuple[View, Window]]] = {}
    for name, view in samples[0][0].items():
        rows.setdefault(view.size, []).extend((views[name], windows[name]) for views, windows in samples)
    return [
        _sheet(size, same_size[first : first + _ROWS])
        for size, same_size in rows.items()
        for first in range(0, len(same_size), _ROWS)
    ]


def _sheet(size: int, rows: Iterable[tuple[View, Window]]) -> Sheet:
    views, windows = zip(*rows, strict=True)
    blends, turns = np.empty((_BLENDS, len(views), 3), np.float32), np.full((_BLENDS, len(views)), np.nan, np.float32)
    blends[:] = 1, 0, 0
    for row, view in enumerate(views):
        if view.jitter is not None:
            for step, name in enumerate(view.jitter.order):
                factor = getattr(view.jitter, name)
                if name == "hue":
                    turns[step, row] = factor
                else:
                    blends[step, row] = _blend_weights(name, factor)
        if view.gray:
            blends[-1, row] = 0, 0, 1
    steps, hue_rows = np.nonzero(np.isfinite(turns))
    sigmas = np.array([view.blur_sigma or 0.0 for view in views])
    blur_rows = np.flatnonzero(sigmas)
    return Sheet(
        size,
        windows=np.array(windows),
        flips=np.array([view.flip for view in views])[:, None, None, None],
        blends=blends,
        hue_rows=hue_rows,
        hue_counts=np.bincount(steps, minlength=_BLENDS).tolist(),
        hue_turns=turns[steps, hue_rows],
        blur_rows=blur_rows,
        blur_kernels=_gaussian_kernels(sigmas[blur_rows], size),
        solarize_rows=np.flatnonzero([view.solarize for view in views]),
    )


def _blend_weights(operation: str, factor: float) -> tuple[float, float, float]:
    if operation == "brightness":
        return factor, 0, 0
    if operation == "contrast":
        return factor, 1 - factor, 0
    return factor, 0, 1 - factor


def _gaussian_kernels(sigmas: np.ndarray, size: int) -> np.ndarray:
    """(n,) in pixels -> (n, taps) float32: rows of sum 1, each zero beyond its own radius."""
    radii = np.ceil(BLUR_RADIUS * sigmas)
    radius = min(int(radii.max(initial=0)), size - 1)  # a border mirrors no more than there is
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-((offsets / sigmas[:, None]) ** 2) / 2) * (abs(offsets) <= radii[:, None])
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
