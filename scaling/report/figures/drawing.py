"""Figures: ink for the numbers of `figure_data`. The only module that imports matplotlib.

Every drawing says its units on its axes, labels its curves where they end, and shows its uncertainty as a band or a
bar. The same numbers give the same bytes: no dates, fixed ids.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.files import write_atomic
from scaling.quantity import format_number
from scaling.report.figures.data import (
    Band,
    DifferenceData,
    FrontierData,
    IsoFlopData,
    IsoFlopPanel,
    OptimaData,
    OptimaLine,
    RatesData,
    RatesLine,
    ServingData,
)
from scaling.report.figures.style import GRID, INK, SOFT, STYLE, colour, marker, ramp, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Draw = Callable[[], Figure]

_FORMATS: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "png": {"metadata": {"Software": None}, "dpi": 160, "facecolor": "white"},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


def render(name: str, draw: Draw) -> dict[str, bytes]:
    """The figure that `draw` makes, as the bytes of every format; `name` keeps the ids of two drawings apart."""
    import matplotlib

    rendered = {}
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = draw()
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # laid out once: every format has the same places, and is drawn once, not twice
        for kind, options in _FORMATS.items():
            out = io.BytesIO()
            figure.savefig(out, format=kind, **options)
            rendered[kind] = out.getvalue()
    return rendered


def write_figure(folder: Path, name: str, rendered: dict[str, bytes]) -> list[Path]:
    """Write `<name>.svg`, `.png` and `.pdf`."""
    paths = [folder / f"{name}.{kind}" for kind in rendered]
    for path, content in zip(paths, rendered.values(), strict=True):
        write_atomic(path, content)
    return paths


def isoflop_figure(data: IsoFlopData) -> Figure:
    """Loss against N at every budget, one panel per line, with the fitted minimum of each budget."""
    columns = min(3, len(data.panels))
    rows = math.ceil(len(data.panels) / columns)
    figure = _figure(3.4 * columns + 0.6, 3.1 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for n, ax in enumerate(grid.flat):
        if n < len(data.panels):
            draw_isoflop(data.panels[n], ax)
            ax.set_xlabel(f"parameters N ({data.params_label})")
        else:
            ax.set_visible(False)
    for row in grid:
        row[0].set_ylabel("validation loss (nats/token)")
    everything = [n for panel in data.panels for curve in panel.curves for n in curve.params]
    _log_ticks(grid[0][0].xaxis, min(everything), max(everything))
    return figure


def draw_isoflop(panel: IsoFlopPanel, ax: Axes) -> None:
    """One line: a dot per cell, the fitted curve, a ring at its minimum with the interval of N_opt."""
    ax.set_xscale("log")
    ax.set_title(panel.line)
    for curve, shade in zip(panel.curves, ramp(len(panel.curves)), strict=True):
        ax.errorbar(curve.params, curve.loss, yerr=curve.loss_sd, fmt="o", color=shade, elinewidth=1, zorder=3)
        ax.plot(curve.curve_params, curve.curve_loss, color=shade, zorder=2)
        if curve.optimum is not None:
            x, y = curve.optimum
            if curve.optimum_interval is not None:
                ax.plot(curve.optimum_interval, (y, y), color=INK, linewidth=1, zorder=4)
            ax.plot([x], [y], "o", mfc="none", mec=INK, markersize=8, zorder=5)
        last = max(range(len(curve.params)), key=lambda n: curve.params[n])
        ax.annotate(
            _compute(curve.budget),
            (curve.params[last], curve.loss[last]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=shade,
            fontsize=8,
        )
    ax.margins(x=0.16)


def optima_figure(data: OptimaData) -> Figure:
    """N_opt and D_opt against compute: isoFLOP minima with intervals, the parametric frontier as a band."""
    figure = _figure(8.6, 3.5)
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
        _band(ax, line.law, colour(line.order))
        shift = 1.0 + 0.03 * (line.order - 1)  # side by side where the budgets coincide
        ax.errorbar(
            [c * shift for c in line.compute],
            line.optimum,
            yerr=_bars(line.optimum, line.low, line.high),
            fmt=marker(line.order),
            color=colour(line.order),
            mfc="none",
            elinewidth=1,
        )
        values += [*line.optimum, *(line.law.value if line.law else ())]
    _key(ax, [(line.order, _exponent(line, symbol)) for line in lines])
    _compute_ticks(
        ax, [c for line in lines for c in line.compute] or [c for line in lines if line.law for c in line.law.compute]
    )
    _log_ticks(ax.yaxis, min(values), max(values))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** (0.09 * len(lines)))  # room for the key


def frontier_figure(data: FrontierData) -> Figure:
    """The loss frontier of every line with its band; below, what the laws leave unexplained."""
    figure = _figure(6.4, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1.3), "hspace": 0.1})
    draw_frontier(data, upper)
    draw_residuals(data, lower)
    lower.set_xlabel(f"training compute C (FLOPs, {data.convention})")
    return figure


def draw_frontier(data: FrontierData, ax: Axes) -> None:
    """Least loss against compute; faint dots are the cells."""
    ax.set_xscale("log")
    ax.set_ylabel("validation loss (nats/token)")
    ends = []
    for line in data.lines:
        ax.plot(line.compute, line.loss, marker(line.order), color=colour(line.order), alpha=0.35, markersize=3.5)
        _band(ax, line.law, colour(line.order))
        if line.law:
            ends.append((line.order, line.name, line.law.compute[-1], line.law.value[-1]))
        else:
            best = min(range(len(line.loss)), key=lambda n: line.loss[n])
            ends.append((line.order, f"{line.name} (no law)", line.compute[best], line.loss[best]))
    _compute_ticks(ax, [c for line in data.lines for c in line.compute])
    _end_labels(ax, ends)


def draw_residuals(data: FrontierData, ax: Axes) -> None:
    """Measured minus fitted loss of every cell, with two standard deviations between seeds as a grey band."""
    ax.axhline(0, color=SOFT, linewidth=0.8)
    if data.seed_noise_nats is not None:
        ax.axhspan(-2 * data.seed_noise_nats, 2 * data.seed_noise_nats, color=GRID, zorder=0)
    for line in data.lines:
        shift = 1.0 + 0.03 * (line.order - 1)
        ax.plot(
            [c * shift for c, r in zip(line.compute, line.residual, strict=True) if r is not None],
            [r for r in line.residual if r is not None],
            marker(line.order),
            color=colour(line.order),
            markersize=3.5,
        )
    ax.set_ylabel("measured − law\n(nats)")


def difference_figure(data: DifferenceData) -> Figure:
    """The answer: loss of every line minus that of the reference at equal compute, in nats and in seed noise."""
    figure = _figure(6.4, 3.2)
    ax = figure.subplots()
    draw_difference(data, ax)
    return figure


def draw_difference(data: DifferenceData, ax: Axes) -> None:
    """Bars are 95 % intervals; inside the grey band (twice the seed noise) a difference is not worth a word."""
    ax.set_xscale("log")
    ax.axhline(0, color=INK, linewidth=1)
    if data.seed_noise_nats is not None:
        ax.axhspan(-2 * data.seed_noise_nats, 2 * data.seed_noise_nats, color=GRID, zorder=0)
    ends = []
    for line in data.lines:
        shift = 1.0 + 0.05 * (line.order - 1.5)
        x = [c * shift for c in line.compute]
        bars = _bars(line.difference, line.low, line.high)
        ax.errorbar(x, line.difference, yerr=bars, fmt=marker(line.order), color=colour(line.order), elinewidth=1.2)
        ends.append(
            (line.order, line.name, max(c for other in data.lines for c in other.compute) * 1.08, line.difference[-1])
        )
    ax.set_xlabel(f"training compute C (FLOPs, {data.convention})")
    ax.set_ylabel(f"loss minus {data.reference} (nats/token)")
    _compute_ticks(ax, [c for line in data.lines for c in line.compute])
    low, high = ax.get_ylim()
    widest = max(abs(low), abs(high))
    ax.set_ylim(min(low, -0.35 * widest), max(high, 0.35 * widest))
    ax.margins(x=0.1)
    _end_labels(ax, ends)
    for y, side, va in ((0.97, "worse", "top"), (0.03, "better", "bottom")):
        words = f"{side} than {data.reference}"
        ax.text(0.99, y, words, transform=ax.transAxes, ha="right", va=va, color=SOFT, fontsize=8)
    if data.seed_noise_nats is not None:
        unit = data.seed_noise_nats
        right: Any = ax.secondary_yaxis(
            "right", functions=(lambda v: np.asarray(v) / unit, lambda v: np.asarray(v) * unit)
        )
        right.set_ylabel("in units of seed noise σ")
        right.spines["right"].set_visible(True)


def serving_figure(data: ServingData) -> Figure:
    """What serving the same loss costs, line by line, one panel per cost."""
    figure = _figure(3.1 * len(data.panels) + 0.5, 3.2)
    axes = figure.subplots(1, len(data.panels), squeeze=False)[0]
    for panel, ax in zip(data.panels, axes, strict=True):
        ax.set_title(panel.title)
        ax.set_ylabel(panel.unit)
        ax.set_xlabel("loss to reach (nats/token)")
        ends = []
        for line in panel.lines:
            ax.plot(line.loss, line.cost, marker(line.order), color=colour(line.order), linestyle="-", linewidth=1.3)
            ends.append((line.order, line.name, line.loss[0], line.cost[0]))
        ax.set_yscale("log")
        costs = [c for line in panel.lines for c in line.cost]
        if costs:
            _log_ticks(ax.yaxis, min(costs), max(costs))
        ax.invert_xaxis()
    _key(axes[0], [(line.order, line.name) for line in data.panels[0].lines])
    return figure


def rates_figure(data: RatesData) -> Figure:
    """Loss, and the largest spectral norm where it is known, of every tuned line around its best rate."""
    panels = [("loss", "validation loss (nats/token)", "linear")]
    if any(norm is not None for line in data.lines for norm in line.matrix_norm):
        panels.append(("matrix_norm", "largest spectral norm of a matrix", "log"))
    figure = _figure(4.2 * len(panels) + 1.4, 3.9)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (column, label, scale) in zip(axes, panels, strict=True):
        ax.set_xscale("log")
        ax.set_yscale(scale)
        draw_rates(data, column, ax)
        ax.set_xlabel("rate / best rate of the line")
        ax.set_ylabel(label)
    axes[0].set_title(data.title)
    right = max(multiple for line in data.lines for multiple in line.multiple)
    _end_labels(axes[-1], [(line.order, line.name, right, _last(line, panels[-1][0])) for line in data.lines])
    return figure


def draw_rates(data: RatesData, column: str, ax: Axes) -> None:
    """Means over seeds with one standard deviation (geometric on a log axis); crosses where a run diverged."""
    import pandas
    import seaborn
    from matplotlib.ticker import FixedLocator, NullLocator

    runs = pandas.DataFrame(
        [
            (line.name, multiple, value)
            for line in data.lines
            for multiple, value in zip(line.multiple, getattr(line, column), strict=True)
        ],
        columns=["line", "multiple", column],
    )
    seaborn.lineplot(
        data=runs,
        x="multiple",
        y=column,
        hue="line",
        style="line",
        palette=[colour(line.order) for line in data.lines],
        markers=[marker(line.order) for line in data.lines],
        dashes=False,
        markeredgewidth=0,
        errorbar="sd",
        err_style="bars",
        legend=False,
        ax=ax,
    )
    for line in data.lines:
        gone = sorted({m for m, loss in zip(line.multiple, line.loss, strict=True) if loss is None})
        ax.plot(gone, [0.98] * len(gone), "x", color=colour(line.order), transform=ax.get_xaxis_transform())
    low, high = min(runs["multiple"]), max(runs["multiple"])
    powers = [2.0**n for n in range(math.ceil(math.log2(low / 1.1)), math.floor(math.log2(high * 1.1)) + 1)]
    ax.xaxis.set_major_locator(FixedLocator(powers))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")


def _last(line: RatesLine, column: str) -> float:
    """The mean at the largest multiple at which a run of the line has `column`."""
    known = [(m, v) for m, v in zip(line.multiple, getattr(line, column), strict=True) if v is not None]
    return float(np.mean([value for multiple, value in known if multiple == max(known)[0]]))


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _band(ax: Axes, band: Band | None, shade: str) -> None:
    if band is None:
        return
    ax.plot(band.compute, band.value, color=shade, zorder=2)
    if band.low and band.high:
        ax.fill_between(band.compute, band.low, band.high, color=shade, alpha=0.16, linewidth=0, zorder=1)


def _bars(value: Sequence[float], low: Sequence[float | None], high: Sequence[float | None]) -> list[list[float]]:
    down = [0.0 if bound is None else max(0.0, v - bound) for v, bound in zip(value, low, strict=True)]
    up = [0.0 if bound is None else max(0.0, bound - v) for v, bound in zip(value, high, strict=True)]
    return [down, up]


def _exponent(line: OptimaLine, symbol: str) -> str:
    if line.exponent is None:
        return f"{line.name}: no exponent"
    interval = "" if line.exponent_interval is None else " [{:.2f}, {:.2f}]".format(*line.exponent_interval)
    return f"{line.name}: {symbol} ∝ C^{line.exponent:.2f}{interval}"


def _key(ax: Axes, entries: Sequence[tuple[int, str]]) -> None:
    """Names of the lines inside the axes, at the top left, in their colours."""
    for row, (order, words) in enumerate(entries):
        ax.annotate(
            words,
            (0.03, 0.97),
            xytext=(0, -11 * row),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            color=colour(order),
            fontsize=8,
        )


def _end_labels(ax: Axes, ends: Sequence[tuple[int, str, float, float]]) -> None:
    """Names beside the right end of the curves, moved apart where they would overlap."""
    into, back = (math.log, math.exp) if ax.get_yscale() == "log" else (float, float)
    low, high = map(into, ax.get_ylim())
    heights = spread([into(y) for *_, y in ends], (high - low) * 0.065)
    for (order, name, x, _), y in zip(ends, map(back, heights), strict=True):
        ax.annotate(
            name, (x, y), xytext=(7, 0), textcoords="offset points", va="center", color=colour(order), fontsize=8
        )


def _compute(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _compute_ticks(ax: Axes, values: Sequence[float]) -> None:
    """A tick at every budget where there are few, at round numbers otherwise; room for labels on the right."""
    from matplotlib.ticker import FixedLocator, NullLocator

    levels: list[float] = []
    for value in sorted(values):
        if not levels or value > levels[-1] * 1.15:
            levels.append(value)
    ticks = [float(f"{level:.1e}") for level in levels] if len(levels) <= 6 else log_ticks(min(values), max(values))
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: _compute(value))
    ax.set_xlim(min(values) / 1.25, max(values) * (max(values) / min(values)) ** 0.28 * 1.1)


def _log_ticks(axis: Any, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: format_number(value, 2))


def log_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers around [low, high] on a log axis."""
    for steps in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        ticks = [s * 10.0**e for e in range(first, last + 1) for s in steps]
        inside = [t for t in ticks if low / 1.6 <= t <= high * 1.6]
        if len(inside) <= 7:
            return inside
    return inside[:: math.ceil(len(inside) / 7)]
