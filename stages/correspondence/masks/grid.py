"""A photo cut into n x n equal rectangles, the simplest masks of DetCon (figure 7); 1 x 1 is SimCLR or BYOL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.data.catalog import Catalog
from stages.data.masks.segmentation import LabelMaps, Segment


def make(*, catalog: Catalog, cells: Sequence[int]) -> tuple[list[str], Segment]:
    """One map for each n of `cells`, at most 256. It is stored as n x n labels, so no photo is opened.

    A photo of fewer than n pixels a side has fewer cells.
    """
    if max(cells) > 256:
        raise ValueError(f"masks.grid.cells={max(cells)}: 16 bits number 256 x 256 cells. Pass 1 to 256.")
    maps = [np.arange(n * n, dtype=np.uint16).reshape(n, n) for n in cells]

    def segment(image: int) -> LabelMaps:
        width, height = catalog.sizes[image].tolist()
        return LabelMaps((width, height), maps)

    return [f"grid_{n}" for n in cells], segment
