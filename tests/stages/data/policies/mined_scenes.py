"""Three photos with boxes and pairs, for the tests of policies."""

from __future__ import annotations

import numpy as np
import pandas as pd

SIZES = np.array([[120, 100], [90, 140], [200, 80]])
BOXES = pd.DataFrame(
    [
        (0, 0, 5, 5, 45, 45),
        (0, 1, 50, 20, 110, 90),
        (1, 0, 0, 0, 90, 140),
        (2, 0, 10, 10, 60, 70),
        (2, 1, 99, 0, 199, 80),
    ],
    columns=["image", "roi", "x0", "y0", "x1", "y1"],
)
# Image 0 has two neighbours: image 1 (one pair) and image 2 (three pairs).
PAIRS = pd.DataFrame(
    [(0, 0, 1, 0, 0), (0, 4, 2, 0, 0), (0, 4, 2, 0, 1), (0, 4, 2, 1, 1), (1, 0, 0, 0, 1), (2, 0, 1, 1, 0)],
    columns=["image", "rank", "neighbor", "roi", "neighbor_roi"],
)


def box_of(image: int, roi: int) -> tuple[int, ...]:
    row = BOXES[(BOXES["image"] == image) & (BOXES["roi"] == roi)]
    return tuple(row[["x0", "y0", "x1", "y1"]].to_numpy()[0].tolist())
