"""The answer as a figure: loss of every line minus that of the reference at equal compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.analysis.study import Study
from scaling.report.figures.axes import (
    Bounds,
    Numbers,
    compute_ticks,
    end_labels,
    error_bars,
    new_figure,
    room_on_the_right,
)
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import GRID, INK, SOFT, colour, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class DifferenceLine:
    """Loss of one line minus the reference's at equal compute, nats, with its 95 % band over all budgets."""

    order: int
    name: str
    compute: Numbers
    difference: Numbers
    low: Bounds
    high: Bounds


@dataclass(frozen=True)
class DifferenceData:
    """Differences at equal compute."""

    reference: str
    lines: tuple[DifferenceLine, ...]
    seed_noise_nats: float | None
    convention: str


def difference_data(study: Study) -> DifferenceData | None:
    """Every line minus the reference at each common budget; None where nothing is compared."""
    lines = [
        DifferenceLine(
            one.line.order,
            one.line.name,
            tuple(d.verdict.cost for d in one.by_budget),
            tuple(d.verdict.difference_nats for d in one.by_budget),
            tuple(d.verdict.interval[0] for d in one.by_budget),
            tuple(d.verdict.interval[1] for d in one.by_budget),
        )
        for one in study.comparisons
    ]
    sigma = study.noise.sigma if study.noise else None
    return DifferenceData(study.reference.name, tuple(lines), sigma, study.convention) if lines else None


def difference_figure(data: DifferenceData) -> Figure:
    """The answer: loss of every line minus that of the reference at equal compute, in nats and in seed noise."""
    figure = new_figure(6.4, 3.2)
    ax = figure.subplots()
    draw_difference(data, ax)
    return figure


def draw_difference(data: DifferenceData, ax: Axes) -> None:
    """Bars are the simultaneous 95 % band over budgets; the grey band is the seed noise, as a scale."""
    ax.set_xscale("log")
    ax.axhline(0, color=INK, linewidth=1)
    if data.seed_noise_nats is not None:
        ax.axhspan(-data.seed_noise_nats, data.seed_noise_nats, color=GRID, zorder=0)
    shift = {line.order: 1.0 + 0.05 * (line.order - 1.5) for line in data.lines}
    right = max(c * shift[line.order] for line in data.lines for c in line.compute)
    for line in data.lines:
        x = [c * shift[line.order] for c in line.compute]
        bars = error_bars(line.difference, line.low, line.high)
        ax.errorbar(x, line.difference, yerr=bars, fmt=marker(line.order), color=colour(line.order), elinewidth=1.2)
    ax.set_xlabel(f"training compute C (FLOPs, {data.convention})")
    ax.set_ylabel(f"loss minus {data.reference} (nats/token)")
    compute_ticks(ax, [c for line in data.lines for c in line.compute])
    room_on_the_right(ax, [line.name for line in data.lines], right)
    low, high = ax.get_ylim()
    widest = max(abs(low), abs(high))
    ax.set_ylim(min(low, -0.35 * widest), max(high, 0.35 * widest))
    end_labels(ax, [(line.order, line.name, right, line.difference[-1]) for line in data.lines])
    for y, side, va in ((0.97, "worse", "top"), (0.03, "better", "bottom")):
        words = f"{side} than {data.reference}"
        ax.text(0.99, y, words, transform=ax.transAxes, ha="right", va=va, color=SOFT, fontsize=8)
    if data.seed_noise_nats is not None:
        unit = data.seed_noise_nats
        sigma: Any = ax.secondary_yaxis(
            "right", functions=(lambda v: np.asarray(v) / unit, lambda v: np.asarray(v) * unit)
        )
        sigma.set_ylabel("in units of seed noise σ")
        sigma.spines["right"].set_visible(True)


def _caption(data: DifferenceData) -> str:
    return (
        f"Loss minus that of {data.reference} at equal compute; bars are the simultaneous 95 % confidence band over "
        "all budgets. A line is better or worse where its bar excludes zero; grey is ±1 seed standard deviation."
    )


DIFFERENCE = StudyFigure("difference", difference_data, difference_figure, _caption, lambda data: 40)
