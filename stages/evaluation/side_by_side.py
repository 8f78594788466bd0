"""Our figures beside those that the papers have published for the same protocol on the same data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.evaluation.published import DataSet, Row, Table, data_sets, published_tables
from stages.evaluation.results import number

_OURS, _THEIRS = "#0072B2", "#9A9A9A"
_INCHES_A_ROW = 0.2


@dataclass(frozen=True)
class Comparison:
    """One protocol: our outcome, and the published tables that it may stand beside."""

    outcome: Outcome
    tables: tuple[Table, ...]

    @property
    def figures(self) -> list[str]:
        """Figures of ours that some table has too, in the order of the report."""
        theirs = {name for table in self.tables for row in table.rows for name in row.figures}
        return [name for name in self.outcome.figures if name in theirs]

    @property
    def encoders(self) -> list[str]:
        """Ours that have at least one of `figures`, in the order of the outcome."""
        return list(dict.fromkeys(name for figure in self.figures for name in self.outcome.values[figure]))

    @property
    def published(self) -> Iterator[tuple[Table, Row]]:
        """The published rows with at least one of `figures`, in the order of their sources."""
        return ((t, row) for t in self.tables for row in t.rows if any(name in row.figures for name in self.figures))


def compare(outcomes: Sequence[Outcome], data: str) -> list[Comparison]:
    """The outcomes for which figures have been published on data set `data`, with these.

    Args:
        data: a key of `published.data_sets()`, such as "voc07".

    Raises:
        ValueError: there is no such data set.
    """
    found = (
        Comparison(outcome, tuple(published_tables(data, outcome.protocol, outcome.settings))) for outcome in outcomes
    )
    return [comparison for comparison in found if comparison.figures]


def side_by_side(comparisons: Sequence[Comparison], photos: int) -> str:
    """A section of the report in Markdown: a table a protocol, ours first and bold, and what the sources say.

    Args:
        photos: how many test photos ours were measured on.
    """
    sections = []
    for comparison in comparisons:
        data = data_sets()[comparison.tables[0].data]
        sections += [f"### {comparison.outcome.protocol.replace('_', ' ')} on {data.title}"]
        sections += [*_warnings(data, photos), _table(comparison), _sources(comparison.tables)]
    return "\n\n".join(sections)


def _warnings(data: DataSet, photos: int) -> list[str]:
    if data.photos is None or photos == data.photos:
        return []
    return [
        f"**Not comparable:** ours are measured on {photos:,} photos, the published figures on the {data.photos:,} of "
        f"{data.title} {data.test}. They show the order of magnitude, no more."
    ]


def _table(comparison: Comparison) -> str:
    figures = {name: comparison.outcome.figures[name] for name in comparison.figures}
    header = ["method", "pretraining", "epochs", "backbone", *(_title(figure) for figure in figures.values()), "source"]
    rows = [header, ["---"] * 2 + ["---:", "---"] + ["---:"] * len(figures) + ["---"]]
    for encoder in comparison.encoders:
        cells = [_ours(figure, comparison.outcome.values[name].get(encoder)) for name, figure in figures.items()]
        rows.append([f"**{encoder}**", "", "", "", *cells, "this run"])
    for table, row in comparison.published:
        cells = [str(row.figures.get(name, "")) for name in figures]
        epochs = "" if row.epochs is None else str(row.epochs)
        source = f"[{table.source.cite}]({table.source.url}), {table.place}"
        rows.append([row.method, row.pretraining, epochs, row.backbone, *cells, source])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _title(figure: Figure) -> str:
    return f"{figure.title} (%)" if figure.percent else figure.title


def _ours(figure: Figure, estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    text = f"**{number(figure, estimate.value)}**"
    if estimate.interval is not None:
        low, high = estimate.interval
        text += f" [{number(figure, low)}, {number(figure, high)}]"
    return text


def _sources(tables: Sequence[Table]) -> str:
    return "\n".join(f"* {table.source.cite}, {table.place}: {table.how.rstrip('.')}." for table in tables)


def draw_side_by_side(comparisons: Sequence[Comparison], path: Path) -> None:
    """A panel for each figure that matters most (`Figure.metric`), else for the first; the largest value on top, ours
    blue. There must be a comparison."""
    panels = [(comparison, name) for comparison in comparisons for name in _main_figures(comparison)]
    dots = [_dots(comparison, name) for comparison, name in panels]
    heights = [_INCHES_A_ROW * len(each) + 0.6 for each in dots]
    canvas = Canvas(figsize=(9, sum(heights) + 0.2), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(len(panels), 1, squeeze=False, height_ratios=heights).ravel()
    for axis, (comparison, name), each in zip(axes, panels, dots, strict=True):
        data = data_sets()[comparison.tables[0].data]
        axis.set_title(f"{_title(comparison.outcome.figures[name])}, {data.title}", fontsize=10, loc="left")
        _panel(axis, each)
    canvas.savefig(path, dpi=110)


@dataclass(frozen=True)
class _Dot:
    label: str
    value: float
    text: str
    interval: tuple[float, float] | None = None
    ours: bool = False


def _main_figures(comparison: Comparison) -> list[str]:
    return [n for n in comparison.figures if comparison.outcome.figures[n].metric is not None] or comparison.figures[:1]


def _dots(comparison: Comparison, name: str) -> list[_Dot]:
    """Largest first; values as the papers print them."""
    figure = comparison.outcome.figures[name]
    factor = 100 if figure.percent else 1
    dots = []
    for encoder, estimate in comparison.outcome.values[name].items():
        interval = estimate.interval and (factor * estimate.interval[0], factor * estimate.interval[1])
        dots.append(_Dot(encoder, factor * estimate.value, number(figure, estimate.value), interval, ours=True))
    for table, row in comparison.published:
        if name in row.figures:
            about = [row.method] if row.pretraining == "none" else [row.method, row.pretraining]
            about += [f"{row.epochs} epochs"] if row.epochs else []
            about += [row.backbone] if row.backbone != "ResNet-50" else []
            dots.append(_Dot(f"{', '.join(about)} · {table.source.cite}", row.figures[name], str(row.figures[name])))
    return sorted(dots, key=lambda dot: -dot.value)


def _panel(axis: Axes, dots: Sequence[_Dot]) -> None:
    for place, dot in enumerate(dots):
        colour = _OURS if dot.ours else _THEIRS
        axis.axhline(place, color="#EEEEEE", linewidth=0.8, zorder=0)
        axis.plot(dot.value, place, "o", color=colour, markersize=6)
        end = dot.value
        if dot.interval is not None:
            axis.hlines(place, *dot.interval, color=colour, linewidth=2)
            end = max(end, dot.interval[1])
        axis.annotate(dot.text, (end, place), (6, 0), textcoords="offset points", va="center", fontsize=7)
    axis.set_yticks(range(len(dots)), [dot.label for dot in dots], fontsize=7)
    for label, dot in zip(axis.get_yticklabels(), dots, strict=True):
        label.set_fontweight("bold" if dot.ours else "normal")
    axis.set_ylim(len(dots) - 0.5, -0.5)
    axis.margins(x=0.08)
    axis.tick_params(axis="x", labelsize=7)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right"]].set_visible(False)
