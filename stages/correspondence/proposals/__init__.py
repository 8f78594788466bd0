"""Region proposals: where in a photo objects may be. One algorithm a file, all with the signature `Propose`.

    propose(image, mode, rng) -> boxes, scores

image: (H, W, 3) uint8 RGB. mode: a variant of the algorithm by name. rng: the only source of randomness, seeded by the
photo's content. boxes: (n, 4) int64, x0, y0, x1, y1 in pixels of `image`, half-open, no two equal, best first.
scores: (n,) float32, descending.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stages.correspondence.proposals import selective_search

Propose = Callable[[np.ndarray, str, np.random.Generator], tuple[np.ndarray, np.ndarray]]

_PROPOSALS: dict[str, Propose] = {"opencv_selective_search": selective_search.propose}


def proposals_by_name(name: str) -> Propose:
    """The algorithm called `name` in the configuration.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in _PROPOSALS:
        raise ValueError(f"proposals '{name}' are not known. Choose one of: {', '.join(_PROPOSALS)}.")
    return _PROPOSALS[name]
