"""Random boxes: as many guesses as wanted, with no look at the photo."""

from __future__ import annotations

import math

import numpy as np

from stages.correspondence.proposals import Propose
from stages.correspondence.proposals.ranking import ranked


def make(*, count: int, scale: tuple[float, float], ratio: tuple[float, float]) -> Propose:
    """`count` boxes, drawn like torchvision's random resized crops; equal ones become one.

    A box that would be wider or higher than the photo is cut to it, so that no shape of photo is without boxes. The
    scores are random numbers, uniform in [0, 1): no box is better than another.

    Args:
        scale: least and largest area, as a share of the photo's; uniform.
        ratio: least and largest width / height; uniform in its logarithm.
    """

    def propose(photo: np.ndarray, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = photo.shape[:2]
        area = rng.uniform(*scale, count) * width * height
        aspect = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), count))
        w = np.clip(np.rint(np.sqrt(area * aspect)), 1, width).astype(np.int64)
        h = np.clip(np.rint(np.sqrt(area / aspect)), 1, height).astype(np.int64)
        x, y = rng.integers(width - w + 1), rng.integers(height - h + 1)
        return ranked(np.stack([x, y, x + w, y + h], axis=1), rng.random(count, dtype=np.float32))

    return propose
