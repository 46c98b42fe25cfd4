"""Pieces of axes that several figures share: error bars, names of lines, ticks of compute and of other log axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaling.quantity import format_number
from scaling.report.figures.labels import WIDEST
from scaling.report.figures.style import colour, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Numbers = tuple[float, ...]
Bounds = tuple[float | None, ...]
_LETTER_POINTS = 4.8  # mean width of a letter at 8 points


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` × `height` inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def error_bars(value: Sequence[float], low: Sequence[float | None], high: Sequence[float | None]) -> list[list[float]]:
    """Lengths of the bars below and above each value; 0 where a bound is unknown."""
    down = [0.0 if bound is None else max(0.0, v - bound) for v, bound in zip(value, low, strict=True)]
    up = [0.0 if bound is None else max(0.0, bound - v) for v, bound in zip(value, high, strict=True)]
    return [down, up]


def line_key(ax: Axes, entries: Sequence[tuple[int, str]]) -> None:
    """Words about the lines inside the axes, at the top left, in their colours."""
    _key(ax, entries, (0.03, 0.97))


def names_key(ax: Axes, entries: Sequence[tuple[int, str]], inside: int = 5) -> None:
    """Names of the lines in their colours: inside the axes at the top left, or where there are more than `inside` to
    the right of the last axes of its row.
    """
    if len(entries) > inside:
        _key(_last_of_row(ax), entries, (1.03, 1.0))
    else:
        line_key(ax, entries)


def _key(ax: Axes, entries: Sequence[tuple[int, str]], corner: tuple[float, float]) -> None:
    for row, (order, words) in enumerate(entries):
        ax.annotate(
            words,
            corner,
            xytext=(0, -11 * row),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            color=colour(order),
            fontsize=8,
            annotation_clip=False,
        )


def _last_of_row(ax: Axes) -> Axes:
    places = [(one, place) for one in ax.figure.axes if (place := one.get_subplotspec()) is not None]
    mine = ax.get_subplotspec()
    row = [(place.colspan.stop, n) for n, (_, place) in enumerate(places) if mine and place.rowspan == mine.rowspan]
    return places[max(row)[1]][0] if row else ax


def end_labels(ax: Axes, ends: Sequence[tuple[int, str, float, float]]) -> None:
    """Names (line, name, x, y) beside the right end of the curves, moved apart where they would overlap."""
    into, back = (math.log, math.exp) if ax.get_yscale() == "log" else (float, float)
    low, high = map(into, ax.get_ylim())
    heights = spread([into(y) for *_, y in ends], (high - low) * 0.065)
    for (order, name, x, _), y in zip(ends, map(back, heights), strict=True):
        ax.annotate(
            name,
            (x, y),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=colour(order),
            fontsize=8,
            annotation_clip=False,
        )


def room_on_the_right(ax: Axes, names: Sequence[str], last: float) -> None:
    """Widen a log x axis so that `end_labels` at `last` end inside it, where something else stands to its right."""
    width = ax.get_window_extent().width / ax.figure.dpi * 72
    widest = max(min(len(name), WIDEST) for name in names) * _LETTER_POINTS + 14
    share = min(0.6, widest / width)
    left, right = map(math.log, ax.get_xlim())
    ax.set_xlim(right=math.exp(max(right, (math.log(last) - share * left) / (1 - share))))


def compute_label(value: float) -> str:
    """FLOPs without a needless digit: ``2e11``, ``6.3e12``."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def compute_ticks(ax: Axes, values: Sequence[float]) -> None:
    """A tick at every budget where there are few, at round numbers otherwise; room for labels on the right."""
    from matplotlib.ticker import FixedLocator, NullLocator

    levels: list[float] = []
    for value in sorted(values):
        if not levels or value > levels[-1] * 1.15:
            levels.append(value)
    ticks = [float(f"{level:.1e}") for level in levels] if len(levels) <= 6 else log_ticks(min(values), max(values))
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: compute_label(value))
    ax.set_xlim(min(values) / 1.25, max(values) * (max(values) / min(values)) ** 0.28 * 1.1)


def set_log_ticks(axis: Axis, low: float, high: float) -> None:
    """Round ticks around [low, high] on a log axis, and no others."""
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
