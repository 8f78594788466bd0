"""What happened along the way: the loss of every training, and what the probe saw of it, as one PNG a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.quality.methods import METHODS


def draw_curves(curves: Mapping[str, list[dict[str, list[float]]]], path: Path) -> None:
    """Left the loss as a share of its first value, as losses of different methods have different scales; right the
    probe's share of objects that are named rightly. One line a seed, one colour a method, dashed for image-level ones.
    """
    canvas = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(canvas)
    loss, probe = canvas.subplots(1, 2)
    for number, (method, seeds) in enumerate(curves.items()):
        style: dict[str, Any] = {"color": colormaps["tab10"](number), "linewidth": 1.1}
        style["linestyle"] = "--" if METHODS[method].base is None else "-"
        for place, curve in enumerate(seeds):
            label = METHODS[method].title if place == 0 else None
            first = curve["loss"][0]
            loss.plot(curve["epoch"], [value / first for value in curve["loss"]], label=label, **style)
            probe.plot(curve["probe_epoch"], [100 * value for value in curve["probe"]], **style)
    _finish(loss, "loss / loss of the first step")
    _finish(probe, "probe: objects named rightly by their neighbours (%)")
    canvas.legend(loc="outside right center", frameon=False)
    canvas.savefig(path, dpi=110)


def _finish(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel("epoch")
    axis.spines[["top", "right"]].set_visible(False)
