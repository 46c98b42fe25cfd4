"""Loss against N at every budget: cells, the fitted curve and its minimum (approach 2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.data_points import Cell
from scaling.analysis.lines import Line
from scaling.analysis.study import Study
from scaling.laws.draws import Interval
from scaling.report.figures.axes import Numbers, compute_label, new_figure, set_log_ticks
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import INK, ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CURVE = 60


@dataclass(frozen=True)
class IsoFlopCurve:
    """The cells of one budget, the curve through them (empty where none was fitted) and its minimum (N_opt, loss)."""

    budget: float
    params: Numbers
    loss: Numbers
    loss_sd: Numbers  # standard error of each cell's mean from the seed noise, 0 where that is unknown
    curve_params: Numbers
    curve_loss: Numbers
    optimum: tuple[float, float] | None
    optimum_interval: Interval | None


@dataclass(frozen=True)
class IsoFlopPanel:
    """One line."""

    line: str
    curves: tuple[IsoFlopCurve, ...]


@dataclass(frozen=True)
class IsoFlopData:
    """Loss against N at every budget."""

    panels: tuple[IsoFlopPanel, ...]
    params_label: str


def isoflop_data(study: Study) -> IsoFlopData | None:
    """Every line that has budgets: its cells, the parabola of each, the minima with intervals; None without budgets."""
    panels = [IsoFlopPanel(line.name, tuple(_curves(study, line))) for line in study.lines if line.budgets]
    return IsoFlopData(tuple(panels), study.settings.params_column) if panels else None


def isoflop_figure(data: IsoFlopData) -> Figure:
    """Loss against N at every budget, one panel per line, with the fitted minimum of each budget."""
    columns = 2 if len(data.panels) == 4 else min(3, len(data.panels))
    rows = math.ceil(len(data.panels) / columns)
    figure = new_figure(3.4 * columns + 0.6, 3.1 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    shades = shades_of(data)
    for n, ax in enumerate(grid.flat):
        if n < len(data.panels):
            draw_isoflop(data.panels[n], ax, shades)
            if n + columns < len(data.panels):
                continue
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(f"parameters N ({data.params_label})")
        else:
            ax.set_visible(False)
    for row in grid:
        row[0].set_ylabel("validation loss (nats/token)")
    everything = [n for panel in data.panels for curve in panel.curves for n in curve.params]
    set_log_ticks(grid[0][0].xaxis, min(everything), max(everything))
    return figure


def shades_of(data: IsoFlopData) -> dict[float, str]:
    """The colour of every budget, from light to dark."""
    budgets = sorted({curve.budget for panel in data.panels for curve in panel.curves})
    return dict(zip(budgets, ramp(len(budgets)), strict=True))


def draw_isoflop(panel: IsoFlopPanel, ax: Axes, shades: Mapping[float, str]) -> None:
    """One line: a dot per cell, the fitted curve, a ring at its minimum with the interval of N_opt.

    `shades` has the colour of every budget, the same in every panel.
    """
    ax.set_xscale("log")
    ax.set_title(panel.line)
    for curve in panel.curves:
        shade = shades[curve.budget]
        ax.errorbar(curve.params, curve.loss, yerr=curve.loss_sd, fmt="o", color=shade, elinewidth=1, zorder=3)
        ax.plot(curve.curve_params, curve.curve_loss, color=shade, zorder=2)
        if curve.optimum is not None:
            x, y = curve.optimum
            if curve.optimum_interval is not None:
                ax.plot(curve.optimum_interval, (y, y), color=INK, linewidth=1, zorder=4)
            ax.plot([x], [y], "o", mfc="none", mec=INK, markersize=8, zorder=5)
        last = max(range(len(curve.params)), key=lambda n: curve.params[n])
        ax.annotate(
            compute_label(curve.budget),
            (curve.params[last], curve.loss[last]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=shade,
            fontsize=8,
        )
    ax.margins(x=0.16)


def _caption(data: IsoFlopData) -> str:
    return (
        "Each budget's losses against size. Dots are cells (bars: seed noise), curves parabolas in log N, rings "
        "their minima with the 95 % interval of N_opt. Minima at the edge of the sizes tried have no ring."
    )


def _curves(study: Study, line: Line) -> Iterable[IsoFlopCurve]:
    minima = {minimum.budget: minimum for minimum in (line.isoflop.minima if line.isoflop else ())}
    sigma = study.noise.sigma if study.noise else 0.0
    for budget, group in groupby([c for c in line.cells if c.budget is not None], key=lambda cell: cell.budget):
        cells = list(group)
        assert budget is not None
        x, y = _parabola(cells)
        minimum = minima.get(budget)
        good = minimum is not None and minimum.bracketed
        yield IsoFlopCurve(
            budget,
            tuple(cell.params for cell in cells),
            tuple(cell.loss for cell in cells),
            tuple(sigma / len(cell.rows) ** 0.5 for cell in cells),
            x,
            y,
            (minimum.params, minimum.loss) if minimum and good else None,
            minimum.params_interval if minimum and good else None,
        )


def _parabola(cells: list[Cell]) -> tuple[Numbers, Numbers]:
    """The parabola in log N through all runs of a budget, as approach 2 fits it; empty below three sizes."""
    x = np.log([cell.params for cell in cells for _ in cell.rows])
    y = np.array([loss for cell in cells for loss in cell.losses])
    if len(np.unique(x)) < 3:
        return (), ()
    grid = np.linspace(x.min(), x.max(), _CURVE)
    centre = x.mean()
    values = np.polyval(np.polyfit(x - centre, y, 2), grid - centre)
    return tuple(np.exp(grid).tolist()), tuple(values.tolist())


ISOFLOP = StudyFigure(
    "isoflop", isoflop_data, isoflop_figure, _caption, lambda data: min(64, 8 + 20 * len(data.panels))
)
