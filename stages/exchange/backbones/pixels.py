"""How a backbone wants its pixels, in words for whoever loads it elsewhere."""

from __future__ import annotations

from stages.learning.backbones import Backbone


def mean_and_std(backbone: Backbone) -> tuple[list[float], list[float]]:
    """Of each channel, RGB in 0..255."""
    mean, std = ([round(value, 3) for value in each.flatten().tolist()] for each in (backbone.mean, backbone.std))
    return mean, std


def normalisation(backbone: Backbone) -> str:
    """A line for the user."""
    mean, std = mean_and_std(backbone)
    return f"# Pixels are RGB in 0..255, less {mean}, divided by {std}."
