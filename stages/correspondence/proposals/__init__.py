"""Region proposals: where in a photo objects may be. One algorithm a file, each with a factory `make` of a `Propose`.

    make(**settings) -> propose
    propose(photo, image, rng) -> boxes, scores

settings: those of the section `regions.NAME` of the configuration, and what the algorithm needs beside (see below).
photo: (H, W, 3) uint8 RGB, the picture that is searched. image: the number of the photo in its catalog. rng: the only
source of randomness, seeded by the photo's content. boxes: (n, 4) int64, x0, y0, x1, y1 in pixels of `photo`,
half-open, no two equal, best first. scores: (n,) float32, descending; of no common scale.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.data.catalog import Catalog

Propose = Callable[[np.ndarray, int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class _Algorithm(NamedTuple):
    """The module with its `make`, and what that takes beside the settings."""

    module: str
    needs: tuple[str, ...] = ()


_ALGORITHMS = {
    "selective_search": _Algorithm("selective_search"),
    "opencv_selective_search": _Algorithm("opencv_selective_search"),
    "bing": _Algorithm("bing"),
    "edge_boxes": _Algorithm("edge_boxes"),
    "grid": _Algorithm("grid"),
    "random": _Algorithm("random_boxes"),
    "ground_truth": _Algorithm("ground_truth", ("catalog",)),
    "learned": _Algorithm("learned", ("encoder", "device")),
}


def make_proposals(name: str, *, catalog: Catalog, encoder: Path | None, device: str, **settings: Any) -> Propose:
    """The algorithm that the configuration calls `name`. Only its own module is imported: some load much.

    Args:
        catalog: of the photos; the labels for `ground_truth`.
        encoder: directory of the trained encoder; only `learned` needs one.
        device: of that encoder.
        settings: arguments of that algorithm's `make`.

    Raises:
        ValueError: there is none of that name, or its settings cannot be used.
    """
    if name not in _ALGORITHMS:
        raise ValueError(f"regions.proposals={name!r} is not known. Choose one of: {', '.join(_ALGORITHMS)}.")
    algorithm = _ALGORITHMS[name]
    available = {"catalog": catalog, "encoder": encoder, "device": device}
    module = importlib.import_module(f"{__name__}.{algorithm.module}")
    return module.make(**settings, **{need: available[need] for need in algorithm.needs})
