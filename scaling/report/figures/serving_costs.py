"""The serving decision as figures: cost at equal loss by line and form, and total cost against served tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.serving_decision import Unit
from scaling.analysis.study import Study
from scaling.inference.decision import Choice
from scaling.quantity import format_number
from scaling.report.decision_tables import CHOICE_WORDS, UNIT_WORDS, made_decision
from scaling.report.figures.axes import Numbers, end_labels, error_bars, new_figure, set_log_ticks
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import INK, SOFT, colour, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN: tuple[Choice, ...] = ("lifetime", "cheapest", "2x")


@dataclass(frozen=True)
class CostRatio:
    """Total cost of one line and form over the reference's, with its 95 % interval."""

    order: int
    name: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class CostRatiosData:
    """Ratios at equal loss, one panel per choice of a model: (title, ratios)."""

    reference: str
    target_loss: float
    served_tokens: float
    panels: tuple[tuple[str, tuple[CostRatio, ...]], ...]


def cost_ratios_data(study: Study) -> CostRatiosData | None:
    """Every line and form beside the reference; None without a decision or without a second line."""
    made = made_decision(study)
    if made is None:
        return None
    found, orders = made.decision, {line.name: line.order for line in study.lines}
    panels = []
    for choice in _SHOWN:
        ratios = [
            CostRatio(orders[row.line], row.name, row.ratio, *row.ratio_interval)
            for row in found.rows
            if row.choice == choice and row.line != found.reference and row.ratio and row.ratio_interval
        ]
        if ratios:
            panels.append((CHOICE_WORDS[choice], tuple(ratios)))
    return CostRatiosData(found.reference, found.target_loss, found.served_tokens, tuple(panels)) if panels else None


def cost_ratios_figure(data: CostRatiosData) -> Figure:
    """One panel per choice, side by side."""
    rows = max(len(ratios) for _, ratios in data.panels)
    figure = new_figure(2.6 * len(data.panels) + 1.4, 0.3 * rows + 1.3)
    axes = figure.subplots(1, len(data.panels), squeeze=False, sharey=True)[0]
    for (title, ratios), ax in zip(data.panels, axes, strict=True):
        draw_cost_ratios(title, ratios, ax)
        ax.set_xlabel(f"total cost, × {data.reference}")
    return figure


def draw_cost_ratios(title: str, ratios: tuple[CostRatio, ...], ax: Axes) -> None:
    """A row per line and form; the bar is the 95 % interval, the rule at 1 the reference."""
    ax.set_title(title)
    ax.set_xscale("log")
    ax.axvline(1.0, color=INK, linewidth=1)
    for row, one in enumerate(ratios):
        bars = error_bars([one.ratio], [one.low], [one.high])
        ax.errorbar([one.ratio], [row], xerr=bars, fmt=marker(one.order), color=colour(one.order), elinewidth=1.2)
    ax.set_yticks(range(len(ratios)), [one.name for one in ratios])
    ax.set_ylim(len(ratios) - 0.5, -0.5)
    ends = [end for one in ratios for end in (one.low, one.high)] + [1.0]
    set_log_ticks(ax.xaxis, min(ends), max(ends))


@dataclass(frozen=True)
class LifeCurve:
    """Total cost of one line in its best form along served tokens."""

    order: int
    name: str
    cost: Numbers


@dataclass(frozen=True)
class LivesData:
    """Total cost against served tokens; break-even points are (order, tokens, cost)."""

    unit: Unit
    asked: float
    served: Numbers
    lines: tuple[LifeCurve, ...]
    break_even: tuple[tuple[int, float, float], ...]


def lives_data(study: Study) -> LivesData | None:
    """The best form of every line; None without a decision."""
    made = made_decision(study)
    if made is None:
        return None
    found, orders = made.decision, {line.name: line.order for line in study.lines}
    scale = 3600.0 if made.unit == "device_seconds" else 1.0
    served = found.served_grid
    costs = {row.line: found.life_of(row) / scale for row in found.best}
    lines = [LifeCurve(orders[row.line], row.name, tuple(costs[row.line].tolist())) for row in found.best]
    points = [
        (orders[p.line], p.served_tokens, float(np.interp(np.log(p.served_tokens), np.log(served), costs[p.line])))
        for p in found.break_even
    ]
    return LivesData(made.unit, found.served_tokens, tuple(served.tolist()), tuple(lines), tuple(points))


def lives_figure(data: LivesData) -> Figure:
    """Total cost along served tokens."""
    figure = new_figure(6.4, 3.4)
    draw_lives(data, figure.subplots())
    return figure


def draw_lives(data: LivesData, ax: Axes) -> None:
    """A curve per line; rings where it costs as much as the reference, a dotted rule at the tokens asked for."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    for line in data.lines:
        ax.plot(data.served, line.cost, color=colour(line.order))
    for order, tokens, cost in data.break_even:
        ax.plot([tokens], [cost], marker(order), color=colour(order), markerfacecolor="none", markersize=8)
    ax.axvline(data.asked, color=SOFT, linestyle=":", linewidth=1)
    ax.set_xlabel("served tokens")
    ax.set_ylabel(f"training and serving ({UNIT_WORDS[data.unit]})")
    set_log_ticks(ax.xaxis, data.served[0], data.served[-1])
    ax.set_xlim(data.served[0], data.served[-1] * (data.served[-1] / data.served[0]) ** 0.3)
    end_labels(ax, [(line.order, line.name, data.served[-1], line.cost[-1]) for line in data.lines])


def _ratios_caption(data: CostRatiosData) -> str:
    return (
        f"Training and serving {format_number(data.served_tokens)} tokens at {data.target_loss:.4g} nats per token: "
        f"cost relative to {data.reference}, with 95 % intervals from paired draws of one law. Left of 1 is cheaper."
    )


def _lives_caption(data: LivesData) -> str:
    rings = " Rings: a line costs as much as the reference." if data.break_even else ""
    return (
        f"What training and serving cost together, each line in its best form and size.{rings} Dotted: what was asked."
    )


COST_RATIOS = StudyFigure("serving_ratios", cost_ratios_data, cost_ratios_figure, _ratios_caption, lambda data: 58)
LIVES = StudyFigure("serving_lives", lives_data, lives_figure, _lives_caption, lambda data: 40)
