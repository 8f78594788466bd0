"""Regions of a photo, drawn where a view shows them, as weights of the cells of the view's feature map.

A view's mask shows the same pixels as its picture: the crop is cut to the same whole pixels of the photo, flipped with
it and resized by nearest neighbour, which leaves every pixel in its region. Colours do not concern it.

Source: DetCon (arXiv:2103.10957), section 3.1; the official code (utils/tf_image_ops.py, detcon_b.py).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from stages.data.masks.segmentation import LabelRuns, MaskStack
from stages.data.render import whole_window
from stages.data.views import View

Pooling = Literal["hard", "soft", "local"]

ABSENT = -1  # the number of a region that was not there to be drawn


def region_shares(regions: LabelRuns | MaskStack, view: View, cells: int) -> np.ndarray:
    """How much of each cell shows each region.

    Args:
        regions: of the whole photo, at its full size.
        cells: G, side of the feature map. Where it does not divide the side of the view, a pixel counts in the cell
            that holds its centre.

    Returns:
        (k, G, G) float32 in [0, 1]: of each label up to the largest, or of each mask, the share of the cell's pixels.
    """
    from stages.data import region_counts  # compiled when it is first needed, not by whoever imports this module

    map_size = regions.map_size if isinstance(regions, LabelRuns) else regions.size
    left, top, right, bottom = whole_window(view.box, *regions.size)
    centers = 2 * np.arange(view.size) + 1  # of the view's pixels, in half pixels
    rows = _sampled(centers, top, bottom, regions.size[1], map_size[1])
    columns = _sampled(centers, left, right, regions.size[0], map_size[0])
    cells_of = centers * cells // (2 * view.size)
    # Columns go through the runs from left to right, so a flip turns the cells around instead.
    place = map_size[0], rows, columns, cells_of, np.ascontiguousarray(cells_of[::-1]) if view.flip else cells_of, cells
    if isinstance(regions, LabelRuns):
        counts = region_counts.count_pixels(regions.lengths, regions.labels, int(regions.labels.max()) + 1, *place)
    else:
        inside = (np.arange(max(map(len, regions.runs))) % 2).astype(np.uint16)
        counts = np.stack([
            region_counts.count_pixels(runs, inside[: len(runs)], 2, *place)[1] for runs in regions.runs
        ])  # fmt: skip
    sides = np.bincount(cells_of).astype(np.float32)
    return counts / (sides[:, None] * sides)


def draw_regions(
    rng: np.random.Generator, shares: np.ndarray, *, regions: int, pooling: Pooling
) -> tuple[np.ndarray, np.ndarray]:
    """Draws `regions` of those that survive in a view, uniformly and with replacement.

    Args:
        shares: (k, G, G) float32 from `region_shares`.
        regions: R.
        pooling: "hard": each cell belongs to the region with the largest share, to the one of the lowest number among
            equals, and a region survives that has a cell (official code); "soft": a region has its share of each cell,
            and survives if the view shows a pixel of it (paper); "local": a region survives as with "soft", and each
            draw of it is one cell, that of a pixel drawn uniformly from those of the region in the view (section 4.4,
            "local features from within each mask"). "hard" is for regions that divide the photo.

    Returns:
        (R, G, G) float32 in [0, 1], weights of the cells; and (R,) int32, the regions' numbers. Where no region
        survives, weights of 0 and `ABSENT`.
    """
    if pooling == "hard":
        winners = shares.argmax(axis=0)
        surviving = np.flatnonzero(np.bincount(winners.reshape(-1)))
    else:
        surviving = np.flatnonzero(shares.any(axis=(1, 2)))
    if not len(surviving):
        return np.zeros((regions, *shares.shape[1:]), np.float32), np.full(regions, ABSENT, np.int32)
    drawn = surviving[rng.integers(len(surviving), size=regions)]
    if pooling == "hard":
        weights = (winners == drawn[:, None, None]).astype(np.float32)
    else:
        weights = shares[drawn] if pooling == "soft" else _one_cell_each(rng, shares[drawn])
    return weights, drawn.astype(np.int32)


def _one_cell_each(rng: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    """(R, G, G) float32: 1 in one cell of each draw, which is as likely as its share of the region's pixels."""
    up_to = shares.reshape(len(shares), -1).cumsum(axis=1, dtype=np.float64)
    aims = rng.random(len(shares)) * up_to[:, -1]  # below the total, so in a cell that holds some of the region
    cells = (up_to <= aims[:, None]).sum(axis=1)
    weights = np.zeros_like(shares)
    weights.reshape(len(shares), -1)[np.arange(len(shares)), cells] = 1
    return weights


def _sampled(centers: np.ndarray, low: int, high: int, length: int, map_length: int) -> np.ndarray:
    """The rows (or columns) of a map that a view of low .. high of the photo shows, from its top (or left): (S,) int64.

    length, map_length: of the photo, and of the map, which may be smaller.
    """
    pixels = low + centers * (high - low) // (2 * len(centers))
    return pixels if map_length == length else (2 * pixels + 1) * map_length // (2 * length)  # as `enlarged` does it
