"""Rank as a variable: loss and compute against the rank ratio, what a factorized parameter is worth, and serving."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scaling.quantity import format_number
from scaling.report.figures.axes import Numbers, compute_label, error_bars, new_figure
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import INK, SOFT, marker, ramp
from scaling.report.ranks import RankCurve, RankData, rank_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def rank_figure(data: RankData) -> Figure:
    """Two by two panels, or one row of two where there is neither κ nor a price."""
    draws = [draw_loss, draw_needed]
    draws += [draw_kappa] if data.kappa else []
    draws += [draw_token] if data.token else []
    rows = (len(draws) + 1) // 2
    figure = new_figure(7.6, 2.9 * rows)
    axes = figure.subplots(rows, 2, squeeze=False).ravel()
    for draw, ax in zip(draws, axes, strict=False):
        draw(data, ax)
    for ax in axes[len(draws) :]:
        ax.set_axis_off()
    return figure


def draw_loss(data: RankData, ax: Axes) -> None:
    """Loss minus the reference's against the ratio, a curve per budget."""
    ax.set_title("Loss at equal compute")
    ax.axhline(0.0, color=INK, linewidth=1)
    _curves(data.loss, ax)
    ax.set_ylabel(f"minus {data.reference} (nats/token)")


def draw_needed(data: RankData, ax: Axes) -> None:
    """Compute needed for the reference's loss against the ratio, a curve per budget."""
    ax.set_title("Compute for equal loss")
    ax.set_yscale("log")
    ax.axhline(1.0, color=INK, linewidth=1)
    _curves(data.needed, ax, label=False)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "235" else "")
    ax.tick_params(axis="y", which="minor", labelsize=8)
    ax.set_ylabel(f"needed, × {data.reference}")


def draw_kappa(data: RankData, ax: Axes) -> None:
    """κ against the ratio, with the fitted power where there is one."""
    curve = data.kappa
    assert curve is not None
    ax.set_title("Worth of a factorized parameter")
    _ratio_axis(ax, curve.ratios)
    ax.axhline(1.0, color=SOFT, linewidth=1, linestyle=":")
    ax.errorbar(curve.ratios, curve.value, yerr=error_bars(curve.value, curve.low, curve.high), fmt="o", color=INK)
    if data.gamma is not None:
        places = np.geomspace(min(curve.ratios), 1.0, 50)
        ax.plot(places, places**data.gamma, color=SOFT)
        ax.annotate(f"ρ^{data.gamma:.2f}", (places[25], places[25] ** data.gamma), color=SOFT, fontsize=8, va="bottom")
    ax.set_ylabel("κ, plain parameters")


def draw_token(data: RankData, ax: Axes) -> None:
    """FLOPs of a decoded token at equal loss against the ratio, a curve per loss."""
    ax.set_title("A decoded token at equal loss")
    ax.axhline(1.0, color=INK, linewidth=1)
    for n, ((loss, ratios, values), shade) in enumerate(zip(data.token, ramp(len(data.token)), strict=True)):
        _ratio_axis(ax, ratios)
        ax.plot(ratios, values, marker(n), color=shade, linestyle="-", linewidth=1)
        _key(ax, n, f"loss {loss:.2f}", shade)
    ax.set_ylabel(f"FLOPs, × {data.reference}")


def _curves(curves: tuple[RankCurve, ...], ax: Axes, *, label: bool = True) -> None:
    """Each budget in its shade, moved a little aside so that bars do not cover each other."""
    for n, (curve, shade) in enumerate(zip(curves, ramp(len(curves)), strict=True)):
        _ratio_axis(ax, curve.ratios)
        aside = 1.0 + 0.035 * (n - (len(curves) - 1) / 2)
        places = [ratio * aside for ratio in curve.ratios]
        bars = error_bars(curve.value, curve.low, curve.high)
        ax.errorbar(
            places, curve.value, yerr=bars, fmt=marker(n), color=shade, elinewidth=1, linestyle="-", linewidth=0.8
        )
        if label:
            _key(ax, n, compute_label(curve.budget or 0.0), shade)


def _key(ax: Axes, row: int, words: str, colour: str) -> None:
    """One entry of a key at the top right."""
    place = (0.98, 0.97)
    below = (0, -10 * row)
    ax.annotate(
        words,
        place,
        xytext=below,
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="top",
        color=colour,
        fontsize=8,
    )


def _ratio_axis(ax: Axes, ratios: Numbers) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(ratios)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: format_number(value))
    ax.set_xlim(min(ratios) / 1.3, max(ratios) * 1.45)
    ax.set_xlabel("rank ratio")


def _caption(data: RankData) -> str:
    token = " A decoded token is priced in FLOPs, each line's cheapest-to-train model." if data.token else ""
    return (
        f"Rank ratio as a variable, against {data.reference}; shades are compute budgets (FLOPs), bars 95 % intervals: "
        f"of the loss over all budgets together, of the compute at each.{token}"
    )


RANK = StudyFigure("rank", rank_data, rank_figure, _caption, lambda data: 50)
