"""Felzenszwalb's segmentation of 640 x 480 photos, one core: ours against scikit-image, label by label.

DetCon's three scales of a photo, each as large as its smallest segment. scikit-image goes through all of it for each.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from skimage.segmentation import felzenszwalb as of_skimage

from benchmarks.correspondence.part import Setup, median, timed
from stages.correspondence.masks.felzenszwalb import felzenszwalb

_SCALES = (500, 1000, 1500)
_SIGMA = 0.8


def measure(setup: Setup) -> dict[str, Any]:
    photos = setup.data.standard_photos(setup.pick(8, 1))
    setup.say(f"segmentation: {len(photos)} photos at the scales {_SCALES}, and at the second alone")
    figures: dict[str, Any] = {"photos": len(photos)}
    for name, scales in (("three_scales", _SCALES), ("one_scale", _SCALES[1:2])):
        ways = {
            "skimage": functools.partial(_skimage, photos, scales),
            "ours": functools.partial(_ours, photos, scales),
        }
        _ours(photos[:1], scales)  # compiles
        rounds = min(setup.rounds, setup.pick(3, 1))  # scikit-image takes seconds a photo
        figures[name] = timed(ways, rounds, "skimage", len(photos), warmup=0)
    same = [
        (ours == theirs).mean() for ours, theirs in zip(_ours(photos, _SCALES), _skimage(photos, _SCALES), strict=True)
    ]
    figures["identical_labels"] = {"mean": float(np.mean(same)), "min": float(np.min(same))}
    worst = min(median(figures["three_scales"], "ours"), median(figures["one_scale"], "ours"))
    return figures | {"headline": {"felzenszwalb_vs_skimage": worst, "felzenszwalb_identical": float(np.mean(same))}}


def _ours(photos: Sequence[np.ndarray], scales: Sequence[int]) -> list[np.ndarray]:
    return [labels for photo in photos for labels in felzenszwalb(photo, scales, _SIGMA)]


def _skimage(photos: Sequence[np.ndarray], scales: Sequence[int]) -> list[np.ndarray]:
    return [of_skimage(photo, scale, _SIGMA, min_size=scale) for photo in photos for scale in scales]
