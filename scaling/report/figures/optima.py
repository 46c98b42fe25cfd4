"""Compute-optimal parameters and tokens against compute, by approaches 2 and 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.analysis.lines import Line
from scaling.analysis.study import Study
from scaling.laws.draws import Interval
from scaling.laws.isoflop import Minimum
from scaling.report.figures.axes import (
    Bounds,
    Numbers,
    compute_ticks,
    error_bars,
    line_key,
    new_figure,
    set_log_ticks,
)
from scaling.report.figures.law_bands import LawBand, draw_band, law_band
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import colour, marker
from scaling.report.table import decimals, fixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class OptimaLine:
    """N_opt or D_opt of one line: isoFLOP minima, the parametric law, and the exponent of approach 3."""

    order: int
    name: str
    compute: Numbers
    optimum: Numbers
    low: Bounds
    high: Bounds
    law: LawBand | None
    exponent: float | None
    exponent_interval: Interval | None


@dataclass(frozen=True)
class OptimaData:
    """N_opt and D_opt against compute."""

    params: tuple[OptimaLine, ...]
    tokens: tuple[OptimaLine, ...]
    params_label: str
    convention: str


def optima_data(study: Study) -> OptimaData | None:
    """N_opt and D_opt of every line: bracketed minima of approach 2, frontier and exponent of approach 3.

    None where no line has a law or two minima: one point shows no dependence on compute.
    """
    lines = {key: tuple(_optima_line(line, key) for line in study.lines) for key in ("N", "D")}
    if not any(len(line.compute) > 1 or line.law for line in lines["N"]):
        return None
    return OptimaData(lines["N"], lines["D"], study.settings.params_column, study.convention)


def optima_figure(data: OptimaData) -> Figure:
    """N_opt and D_opt against compute: isoFLOP minima with intervals, the parametric frontier as a band."""
    figure = new_figure(8.6, 3.5)
    axes = figure.subplots(1, 2)
    draw_optima(data.params, axes[0], f"optimal parameters N ({data.params_label})", "N")
    draw_optima(data.tokens, axes[1], "optimal tokens D", "D")
    for ax in axes:
        ax.set_xlabel(f"training compute C (FLOPs, {data.convention})")
    return figure


def draw_optima(lines: Sequence[OptimaLine], ax: Axes, label: str, symbol: str) -> None:
    """One quantity: rings with bars are isoFLOP minima, band and curve the parametric law."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylabel(label)
    values: list[float] = []
    for line in lines:
        draw_band(ax, line.law, colour(line.order))
        shift = 1.0 + 0.03 * (line.order - 1)  # side by side where the budgets coincide
        ax.errorbar(
            [c * shift for c in line.compute],
            line.optimum,
            yerr=error_bars(line.optimum, line.low, line.high),
            fmt=marker(line.order),
            color=colour(line.order),
            mfc="none",
            elinewidth=1,
        )
        values += [*line.optimum, *(line.law.value if line.law else ())]
    line_key(ax, [(line.order, _exponent(line, symbol)) for line in lines])
    compute_ticks(
        ax, [c for line in lines for c in line.compute] or [c for line in lines if line.law for c in line.law.compute]
    )
    set_log_ticks(ax.yaxis, min(values), max(values))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** (0.09 * len(lines)))  # room for the key


def _caption(data: OptimaData) -> str:
    return (
        "Compute-optimal parameters and tokens. Markers are isoFLOP minima (approach 2), curves the parametric "
        "law (approach 3), bars and bands 95 % intervals; exponents are those of approach 3."
    )


def _optima_line(line: Line, key: str) -> OptimaLine:
    minima: tuple[Minimum, ...] = line.isoflop.bracketed if line.isoflop else ()
    name = "params" if key == "N" else "tokens"
    bounds = [getattr(minimum, f"{name}_interval") or (None, None) for minimum in minima]
    intervals = line.law.exponent_intervals if line.law else {}
    return OptimaLine(
        line.order,
        line.name,
        tuple(minimum.budget for minimum in minima),
        tuple(getattr(minimum, name) for minimum in minima),
        tuple(low for low, _ in bounds),
        tuple(high for _, high in bounds),
        law_band(line, key),
        line.law.fit.exponents.get(key) if line.law else None,
        intervals.get(key),
    )


def _exponent(line: OptimaLine, symbol: str) -> str:
    if line.exponent is None:
        return f"{line.name}: no exponent"
    ends = line.exponent_interval
    show = fixed(decimals(*ends) if ends else 2)
    interval = f" [{show(ends[0])}, {show(ends[1])}]" if ends else ""
    return f"{line.name}: {symbol} ∝ C^{show(line.exponent)}{interval}"


OPTIMA = StudyFigure("optima", optima_data, optima_figure, _caption, lambda data: 56)
