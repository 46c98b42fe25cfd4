"""The frontier of a line along its own compute, with its 95 % interval: what several figures draw as a band."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.data_points import Cell
from scaling.analysis.lines import Line
from scaling.analysis.predictions import stacked_frontier
from scaling.laws.frontier import Optimum
from scaling.laws.law_intervals import monotone_band
from scaling.laws.points import Array
from scaling.report.figures.axes import Numbers
from scaling.report.figures.style import GRID

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEVELS = 13  # of compute along a band
_BEYOND = 1.25  # a band goes this factor beyond the smallest and the largest budget


@dataclass(frozen=True)
class LawBand:
    """A quantity along compute with its 95 % interval; `low` and `high` are empty where there were no draws."""

    compute: Numbers
    value: Numbers
    low: Numbers
    high: Numbers


def law_band(line: Line, key: str) -> LawBand | None:
    """N, D or loss of the frontier over the line's own compute; None without a law. The loss is that of the stacked
    forms with their calibrated interval, where forms are stacked.
    """
    optima = _optima(line)
    if not optima:
        return None
    if key == "loss" and (stacked := _stacked(line)) is not None:
        return stacked
    values = {"N": [o.params for o in optima], "D": [o.tokens for o in optima], "loss": [o.loss for o in optima]}
    bounds = [o.intervals[key] for o in optima if key in o.intervals]
    if key == "loss" and bounds:  # loss falls with compute, and so do the ends of its band
        bounds = list(zip(*monotone_band(*np.array(bounds).T), strict=True))
    compute = tuple(o.compute for o in optima)
    return LawBand(compute, tuple(values[key]), tuple(low for low, _ in bounds), tuple(high for _, high in bounds))


def draw_band(ax: Axes, band: LawBand | None, shade: str) -> None:
    """The curve and, where it has bounds, the band around it; nothing where there is no law."""
    if band is None:
        return
    ax.plot(band.compute, band.value, color=shade, zorder=2)
    if band.low and band.high:
        ax.fill_between(band.compute, band.low, band.high, color=shade, alpha=0.16, linewidth=0, zorder=1)


def shade_trained(ax: Axes, computes: Iterable[Numbers]) -> None:
    """Grey behind the compute that was trained: what is beyond is an extrapolation."""
    levels = [level for line in computes for level in line]
    ax.axvspan(min(levels), max(levels), color=GRID, alpha=0.4, zorder=0, linewidth=0)


def cell_compute(cell: Cell) -> float:
    """Training FLOPs of a cell; 6·N·D where the table has none."""
    return 6.0 * cell.params * cell.tokens if cell.flops is None else cell.flops


def _stacked(line: Line) -> LawBand | None:
    along = stacked_frontier(line, _levels(line).tolist())
    if along is None:
        return None
    ends = np.array([one.intervals["loss"] for one in along])
    low, high = monotone_band(ends[:, 0], ends[:, 1])
    return LawBand(
        tuple(_levels(line).tolist()), tuple(one.loss for one in along), tuple(low.tolist()), tuple(high.tolist())
    )


def _levels(line: Line) -> Array:
    spent = line.points.compute
    return np.geomspace(spent.min() / _BEYOND, spent.max() * _BEYOND, _LEVELS)


@lru_cache(maxsize=32)
def _optima(line: Line) -> list[Optimum]:
    """Optima along the line's own compute, but those at an edge of the sizes searched: the figures of optima and of the
    frontier read them.
    """
    if line.frontier is None or line.undetermined:
        return []
    optima = [line.frontier.at(float(level)) for level in _levels(line)]
    return [optimum for optimum in optima if not optimum.at_edge]
