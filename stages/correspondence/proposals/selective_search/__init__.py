"""Selective search (Uijlings et al. 2013), our own: OpenCV's boxes in a fraction of its time, in an order that repeats.

* `stages.correspondence.graph_segmentation`: segments of the picture at several scales at once.
* `texture`, `statistics` (with `pair_set`): what is known of each segment.
* `grouping`: segments become ever larger regions; each is a box.
* `search`: all colour spaces, scales and strategies of a mode, and the order of the boxes.

At most 70 bytes a pixel are held at once, so a photo of 4 million pixels takes 280 MB.
"""

from __future__ import annotations

import numpy as np

from stages.correspondence.proposals import Propose
from stages.correspondence.proposals.selective_search.grouping import Strategy
from stages.correspondence.proposals.selective_search.search import Settings, hierarchies, rank

_ALL = Strategy(color=1, fill=1, texture=1, size=1)
_NO_COLOR = Strategy(color=0, fill=1, texture=1, size=1)
_FILL = Strategy(color=0, fill=1, texture=0, size=0)
_SIZE = Strategy(color=0, fill=0, texture=0, size=1)

# As in OpenCV's switchTo... functions. In place of "blue" the paper has the hue, and OpenCV adds it to its
# pictures, too, but then splits the photo into the same memory, and searches the blue channel.
_MODES = {
    "fast": Settings(spaces=("hsv", "lab"), scales=(150, 300, 450), strategies=(_ALL, _NO_COLOR)),
    "quality": Settings(
        spaces=("hsv", "lab", "gray", "blue", "rg_gray"),
        scales=(150, 300, 450, 600, 750),
        strategies=(_ALL, _NO_COLOR, _FILL, _SIZE),
    ),
    "single": Settings(spaces=("hsv",), scales=(200,), strategies=(_ALL,)),
}
# Segments of half the resolution have a quarter of the pixels and steeper edges, hence smaller k, and more of them.
# Strategies without texture are faster, and find as much when there are more segmentations. There are more boxes then,
# most of them small, so the larger regions go first.
_COARSE = Settings(
    spaces=(),
    scales=(50, 100, 150, 225, 300),
    strategies=(Strategy(1, 1, 0, 1), Strategy(0, 1, 0, 1), _FILL, _SIZE),
    min_size=25,
    sigma=0.5,
    reduce=2,
    large_first=True,
)
_VARIANTS = ("default", "exact", "light")


def make(*, mode: str = "fast", variant: str = "default") -> Propose:
    """Selective search of a photo.

    The order is OpenCV's, with the caller's generator in place of C's rand(): by level * u, where u is uniform in
    [0, 1) and the level of a region is 1 for a segment and one more than the higher of the two regions that it was
    merged from. So small low-level segments tend to come first. The score is -level * u. "light", whose boxes are not
    OpenCV's anyway, has the paper's order: u times the region's place in its hierarchy, from the last one down.
    Nothing but the photo and the generator decides about boxes and order.

    Args:
        mode: "fast" (the choice of ORL's official code: HSV and Lab, k = 150, 300, 450, two strategies), "quality"
            (five colour spaces, five k, four strategies) or "single" (HSV, k = 200, one strategy).
        variant: "exact" computes texture as OpenCV does; the boxes are OpenCV's (not all of them where one side is
            more than 2.4 times the other). "default" derives along the diagonals without rotating the picture; nine
            boxes in ten are OpenCV's. "light" searches at half the resolution, with the mode's colour spaces, but five
            smaller k and four strategies without texture.

    Raises:
        ValueError: there is no such mode or variant.
    """
    if mode not in _MODES:
        raise ValueError(f"selective search has no mode '{mode}'. Choose one of: {', '.join(_MODES)}.")
    if variant not in _VARIANTS:
        raise ValueError(f"selective search has no variant '{variant}'. Choose one of: {', '.join(_VARIANTS)}.")
    settings = _MODES[mode]
    if variant == "exact":
        settings = settings._replace(rotated=True)
    elif variant == "light":
        settings = _COARSE._replace(spaces=settings.spaces)

    def propose(photo: np.ndarray, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rank(*hierarchies(photo, settings), rng)

    return propose
