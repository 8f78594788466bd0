"""comparison.png: every figure as bars, one colour an encoder, with intervals and chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.evaluation.results import number, untrained

# Okabe and Ito's colours, told apart by colour-blind readers; untrained networks are grey.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_GREY = "#9A9A9A"
_COLUMNS = 4
# In the table only: these repeat what the effective rank and the std show.
_HIDDEN = ("collapsed", "std_projector", "mean_cosine", "mean_cosine_projector")


def draw_comparison(outcomes: Sequence[Outcome], encoders: Sequence[str], path: Path) -> None:
    """One panel a figure; a bar an encoder; the whisker is the 95 % interval, the dashed line chance."""
    panels = [
        (figure, outcome.values[key])
        for outcome in outcomes
        for key, figure in outcome.figures.items()
        if key not in _HIDDEN and (len(outcome.values[key]) > 1 or len(encoders) == 1)
    ]
    colours = _colours(encoders)
    rows = -(-len(panels) // _COLUMNS)
    canvas = Canvas(figsize=(3.1 * _COLUMNS, 2.6 * rows + 0.7), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis, (figure, estimates) in zip(axes, panels, strict=False):
        _panel(axis, figure, [estimates.get(name) for name in encoders], [colours[name] for name in encoders])
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    handles: list[Patch | Line2D] = [Patch(color=colours[name], label=name.replace("_", " ")) for name in encoders]
    handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label="chance"))
    canvas.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    canvas.savefig(path, dpi=130)


def _panel(axis: Axes, figure: Figure, estimates: Sequence[Estimate | None], colours: Sequence[str]) -> None:
    factor = 100 if figure.percent else 1
    ends = [0.0]  # some figures, such as uniformity, are below 0
    for place, (estimate, colour) in enumerate(zip(estimates, colours, strict=True)):
        if estimate is None:  # an encoder that has no such figure
            continue
        height = factor * estimate.value
        axis.bar(place, height, color=colour, width=0.72)
        top = height
        if estimate.interval is not None:
            low, high = (factor * bound for bound in estimate.interval)
            axis.vlines(place, low, high, color="black", linewidth=1.2)
            top = max(height, high)
            ends.append(low)
        label = number(figure, estimate.value)
        axis.annotate(label, (place, top), (0, 3), textcoords="offset points", ha="center", fontsize=9)
        ends.append(top)
    chance = next((estimate.chance for estimate in estimates if estimate is not None), None)
    if chance is not None:
        axis.axhline(factor * chance, color="black", linestyle="--", linewidth=1)
        ends.append(factor * chance)
    room = 0.18 * (max(ends) - min(ends)) or 1.0
    axis.set_ylim(min(ends) - (room if min(ends) < 0 else 0), max(ends) + room)
    axis.set_title(figure.title + (" (%)" if figure.percent else ""), fontsize=10, loc="left")
    axis.set_xticks([])
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _colours(encoders: Sequence[str]) -> dict[str, str]:
    trained = [name for name in encoders if not untrained(name)]
    shared = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(trained)}
    return {name: shared.get(name, _GREY) for name in encoders}
