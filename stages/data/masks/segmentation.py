"""The two kinds of segmentation of a photo: label maps, whose regions divide it, and masks, which may overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Size = tuple[int, int]  # width, height; pixels

MAX_LABELS = 2**16  # what uint16 can number


@dataclass(frozen=True)
class LabelMaps:
    """Regions that do not overlap, several times: one map a layer (a scale, a number of cells).

    Attributes:
        size: of the photo.
        maps: each (h, w) of an integer type, labels in 0 .. MAX_LABELS - 1. It may be smaller than the photo and
            stands for its enlargement, see `enlarged`.
    """

    size: Size
    maps: Sequence[np.ndarray]

    def layers(self) -> Iterator[np.ndarray]:
        """The maps at the size of the photo, (H, W) each."""
        return (enlarged(labels, self.size) for labels in self.maps)


@dataclass(frozen=True)
class LabelRuns:
    """One label map as it is stored: by its runs, row by row; a run may go on from one row to the next.

    Attributes:
        size: of the photo.
        map_size: of the map, which may be smaller and stands for its enlargement, see `enlarged`.
        lengths: (r,) uint32, pixels of the map; their sum is all of them.
        labels: (r,) uint16.
    """

    size: Size
    map_size: Size
    lengths: np.ndarray
    labels: np.ndarray

    def map(self) -> np.ndarray:
        """(H, W) uint16 at the size of the photo."""
        width, height = self.map_size
        return enlarged(np.repeat(self.labels, self.lengths).reshape(height, width), self.size)


@dataclass(frozen=True)
class MaskStack:
    """Masks that may overlap, best first.

    Attributes:
        size: of the photo.
        runs: one (r,) uint32 a mask, see `runs_of_mask`; at least one.
        scores: (n,) float32, of no common scale; NaN for the whole photo that stands in where there is no mask.
    """

    size: Size
    runs: Sequence[np.ndarray]
    scores: np.ndarray

    @classmethod
    def of(cls, size: Size, runs: Sequence[np.ndarray], scores: np.ndarray | Sequence[float]) -> MaskStack:
        """The stack of masks in any order, without the empty ones; of the whole photo where none is left."""
        kept = [i for i in np.argsort(-np.asarray(scores, np.float32), kind="stable") if runs[i][1:].any()]
        if not kept:
            return cls(size, [np.array([0, size[0] * size[1]], np.uint32)], np.array([np.nan], np.float32))
        return cls(size, [runs[i] for i in kept], np.asarray(scores, np.float32)[kept])

    def masks(self) -> Iterator[np.ndarray]:
        """(H, W) bool each."""
        return (mask_of_runs(runs, self.size) for runs in self.runs)


Segmentation = LabelMaps | MaskStack
# The segmentation of the photo with this number.
Segment = Callable[[int], Segmentation]


def enlarged(labels: np.ndarray, size: Size) -> np.ndarray:
    """(h, w) -> (H, W): each pixel of the photo takes the label at its centre."""
    (width, height), (map_height, map_width) = size, labels.shape
    if (height, width) == labels.shape:
        return labels
    rows = (2 * np.arange(height) + 1) * map_height // (2 * height)
    columns = (2 * np.arange(width) + 1) * map_width // (2 * width)
    return labels[rows[:, None], columns]


def runs_of_mask(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool -> (r,) uint32: lengths of its runs, row by row, by turns outside and inside; outside first, maybe
    0 pixels."""
    flat = mask.reshape(-1)
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = [0, 0] if flat[0] else [0]
    return np.diff(np.concatenate([start, ends, [flat.size]])).astype(np.uint32)


def mask_of_runs(runs: np.ndarray, size: Size) -> np.ndarray:
    """The inverse of `runs_of_mask`. Raises ValueError when the runs are not of as many pixels."""
    check_runs(runs, size)
    width, height = size
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def check_runs(lengths: np.ndarray, size: Size) -> None:
    """Raises ValueError unless runs of these lengths fill a mask or map of `size`."""
    width, height = size
    if lengths.sum(dtype=np.int64) != width * height:
        raise ValueError(f"runs over {lengths.sum(dtype=np.int64)} pixels for {width} x {height}")
