"""A measured figure with its bootstrap interval, and what a protocol hands to the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RESAMPLES = 200
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """`value` with its 95 % bootstrap interval and the value that guessing reaches. A share in [0, 1], or a difference.

    `resamples` (RESAMPLES,) are the values on the bootstrap resamples. Encoders measured on the same photos share their
    resamples, so the difference of two encoders has an interval of its own, narrower than their two suggest.
    """

    value: float
    chance: float | None = None
    resamples: np.ndarray | None = field(default=None, repr=False, compare=False)
    difference: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """Percentiles 2.5 and 97.5 of the resamples, moved so that their mean is `value`; None without resamples.

        Average precision is larger on a resample than on the photos it was drawn from, because a photo that was drawn
        twice is ranked next to itself. Without the move, intervals would lie too high. Means of hits are not affected.
        """
        if self.resamples is None or not np.isfinite(self.resamples).any():
            return None
        moved = self.resamples - np.nanmean(self.resamples) + self.value
        low, high = np.nanpercentile(moved, INTERVAL).tolist()
        # Shares end at 0 and 1; other figures, such as uniformity, are below or above these.
        share = not self.difference and np.nanmin(self.resamples) >= 0 and np.nanmax(self.resamples) <= 1
        return (max(low, 0.0), min(high, 1.0)) if share else (low, high)

    def minus(self, other: Estimate) -> Estimate:
        """The difference of two estimates on the same photos, with its paired interval."""
        if self.resamples is None or other.resamples is None:
            return Estimate(self.value - other.value, difference=True)
        return Estimate(self.value - other.value, resamples=self.resamples - other.resamples, difference=True)


@dataclass(frozen=True)
class Figure:
    """What one number of a protocol means.

    Attributes:
        title: a few words for tables and plots.
        meaning: one sentence for the report.
        metric: name under which the figure is kept with the artifact, for the few that matter most.
        percent: a share in [0, 1], shown in percent.
        ranked: whether a larger value is simply better, so that the best encoder may be marked.
    """

    title: str
    meaning: str
    metric: str | None = None
    percent: bool = True
    ranked: bool = True


@dataclass(frozen=True)
class Outcome:
    """The figures of one protocol on one data set: `values[figure][encoder]`.

    Attributes:
        protocol: name of the protocol.
        data: version of the catalog that was measured on.
        settings: JSON values: the choices that the figures depend on.
        figures: meaning of each figure, in the order of the report.
        values: estimates by figure, then by encoder. Figures that are missing from `figures` are details: they are
            kept in results.json alone.
        notes: sentences that a reader has to know, such as classes left out.
    """

    protocol: str
    data: str
    settings: dict[str, Any]
    figures: dict[str, Figure]
    values: dict[str, dict[str, Estimate]]
    notes: list[str] = field(default_factory=list)


def resample_counts(units: int, seed: int) -> np.ndarray:
    """How often each of `units` photos is drawn in each bootstrap resample (Efron 1979). (RESAMPLES, units) int64."""
    return np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=RESAMPLES)


def weighted_mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean of `values` (N,) in each resample, `counts` (R, N) times each. (R,), NaN where a resample holds none."""
    totals = counts.sum(axis=1)
    return np.divide(counts @ values, totals, out=np.full(len(counts), np.nan), where=totals > 0)


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over classes. In a resample that holds nothing of some classes (NaN), the mean is over the others."""
    resamples = np.stack([np.asarray(estimate.resamples) for estimate in estimates])
    present = np.isfinite(resamples)
    total = np.where(present, resamples, 0).sum(axis=0)
    number = present.sum(axis=0)
    return Estimate(
        float(np.mean([estimate.value for estimate in estimates])),
        float(np.mean([estimate.chance for estimate in estimates])),
        np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0),
    )
