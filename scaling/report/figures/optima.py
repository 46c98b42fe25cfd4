"""Compute-optimal parameters, tokens and their ratio against compute, by approaches 2 and 3, beside published laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.lines import Line
from scaling.analysis.study import Study
from scaling.laws.draws import Interval
from scaling.laws.isoflop import Minimum
from scaling.laws.published import published
from scaling.report.figures.axes import (
    Bounds,
    Numbers,
    compute_ticks,
    error_bars,
    line_key,
    new_figure,
    set_log_ticks,
)
from scaling.report.figures.law_bands import LawBand, cell_compute, draw_band, law_band, shade_trained
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import SOFT, colour, marker
from scaling.report.table import decimals, fixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PUBLISHED = {"replication-2024": "Hoffmann et al., refitted 2024"}
_LEVELS = 25  # of compute along a published law


@dataclass(frozen=True)
class OptimaLine:
    """N_opt, D_opt or D/N of one line: isoFLOP minima, the parametric law, and the exponent of approach 3."""

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
class PublishedOptima:
    """A law of the literature over the same compute, far outside of where it was fitted."""

    name: str
    compute: Numbers
    params: Numbers
    tokens: Numbers


@dataclass(frozen=True)
class OptimaData:
    """N_opt, D_opt and their ratio against compute; `trained` is the compute of every line's cells."""

    params: tuple[OptimaLine, ...]
    tokens: tuple[OptimaLine, ...]
    ratio: tuple[OptimaLine, ...]
    published: tuple[PublishedOptima, ...]
    trained: tuple[Numbers, ...]
    params_label: str
    convention: str


def optima_data(study: Study) -> OptimaData | None:
    """N_opt and D_opt of every line: bracketed minima of approach 2, frontier and exponent of approach 3.

    None where no line has a law or two minima: one point shows no dependence on compute.
    """
    lines = {key: tuple(_optima_line(line, key) for line in study.lines) for key in ("N", "D")}
    if not any(len(line.compute) > 1 or line.law for line in lines["N"]):
        return None
    ratio = tuple(_ratio(n, d) for n, d in zip(lines["N"], lines["D"], strict=True))
    trained = tuple(tuple(cell_compute(cell) for cell in line.cells) for line in study.lines)
    ends = [level for compute in trained for level in compute]
    others = tuple(_published(name, (min(ends), max(ends))) for name in _PUBLISHED)
    return OptimaData(lines["N"], lines["D"], ratio, others, trained, study.settings.params_column, study.convention)


def optima_figure(data: OptimaData) -> Figure:
    """N_opt, D_opt and D/N against compute: isoFLOP minima with intervals, the parametric frontier as a band, published
    laws in grey.
    """
    figure = new_figure(11.4, 3.5)
    axes = figure.subplots(1, 3)
    draw_optima(data.params, axes[0], f"optimal parameters N ({data.params_label})", "N")
    draw_optima(data.tokens, axes[1], "optimal tokens D", "D")
    draw_optima(data.ratio, axes[2], "tokens per parameter D/N", "D/N")
    for ax in axes:
        shade_trained(ax, data.trained)
        ax.set_xlabel(f"training compute C (FLOPs, {data.convention})")
    for law in data.published:
        ratio = tuple(d / n for n, d in zip(law.params, law.tokens, strict=True))
        draw_published(law, law.params, axes[0], below=True)
        draw_published(law, law.tokens, axes[1])
        draw_published(law, ratio, axes[2])
    return figure


def draw_published(law: PublishedOptima, values: Numbers, ax: Axes, *, below: bool = False) -> None:
    """A dotted grey line, named above its right end or below its left one; nothing where it stays outside."""
    low, high = ax.get_ylim()
    if not any(low < value < high for value in values):
        return
    ax.plot(law.compute, values, ":", color=SOFT, linewidth=1.2, zorder=1)
    ax.set_ylim(low, high)
    inside = [k for k, value in enumerate(values) if low < value < high]
    named = inside[0] if below else inside[-1]
    ax.annotate(
        law.name,
        (law.compute[named], values[named]),
        xytext=(12, -6) if below else (0, 4),
        textcoords="offset points",
        ha="left" if below else "right",
        va="top" if below else "bottom",
        color=SOFT,
        fontsize=7,
    )


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
        "Compute-optimal parameters, tokens and tokens per parameter. Markers are isoFLOP minima (approach 2), curves "
        "the parametric law (approach 3), bars and bands 95 % intervals; exponents are those of approach 3. Grey: the "
        "compute that was trained. Dotted: laws of the literature, of other corpora and tokenizers and, below 1e15 "
        "FLOPs, extrapolated."
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


def _ratio(n: OptimaLine, d: OptimaLine) -> OptimaLine:
    """D/N from N and D at equal compute: where one is large the other is small."""
    law = None
    if n.law and d.law:
        parts = ((d.law.value, n.law.value), (d.law.low, n.law.high), (d.law.high, n.law.low))
        law = LawBand(n.law.compute, *(tuple(x / y for x, y in zip(*part, strict=True)) for part in parts))
    exponents = None if n.exponent is None or d.exponent is None else d.exponent - n.exponent
    ends = None
    if n.exponent_interval and d.exponent_interval:
        ends = (d.exponent_interval[0] - n.exponent_interval[1], d.exponent_interval[1] - n.exponent_interval[0])
    return replace(
        n,
        optimum=tuple(x / y for x, y in zip(d.optimum, n.optimum, strict=True)),
        low=tuple(_quotient(x, y) for x, y in zip(d.low, n.high, strict=True)),
        high=tuple(_quotient(x, y) for x, y in zip(d.high, n.low, strict=True)),
        law=law,
        exponent=exponents,
        exponent_interval=ends,
    )


def _quotient(x: float | None, y: float | None) -> float | None:
    return None if x is None or y is None else x / y


def _published(name: str, ends: tuple[float, float]) -> PublishedOptima:
    compute = np.geomspace(*ends, _LEVELS)
    optima = [published(name).predict(float(level)) for level in compute]
    params, tokens = (tuple(float(one[key] or 0.0) for one in optima) for key in ("N", "D"))
    return PublishedOptima(_PUBLISHED[name], tuple(compute.tolist()), params, tokens)


def _exponent(line: OptimaLine, symbol: str) -> str:
    if line.exponent is None:
        return f"{line.name}: no exponent"
    ends = line.exponent_interval
    show = fixed(decimals(*ends) if ends else 2)
    interval = f" [{show(ends[0])}, {show(ends[1])}]" if ends else ""
    return f"{line.name}: {symbol} ∝ C^{show(line.exponent)}{interval}"


OPTIMA = StudyFigure("optima", optima_data, optima_figure, _caption, lambda data: 68)
