"""Lines that were tuned over rates: loss and largest spectral norm around the best rate of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.rates import tunings
from scaling.analysis.study import Study
from scaling.quantity import format_number
from scaling.report.figures.axes import Bounds, Numbers, end_labels, new_figure
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import colour, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RatesLine:
    """The runs of one line over rates; the loss of a run that diverged is None."""

    order: int
    name: str
    multiple: Numbers  # of the line's best rate
    loss: Bounds
    matrix_norm: Bounds


@dataclass(frozen=True)
class RatesData:
    """Loss and norms of tuned lines around their best rates."""

    lines: tuple[RatesLine, ...]
    title: str


def rates_data(study: Study) -> RatesData | None:
    """The shape and number of tokens at which most lines were tuned, run by run; None where none was."""
    groups = tunings(study)
    if not groups:
        return None
    lines = []
    for tuned in sorted(groups[0], key=lambda one: one.order):
        runs = [(rate.lr / tuned.best.lr, row) for rate in tuned.rates for row in rate.rows]
        multiples = tuple(multiple for multiple, _ in runs)
        losses = tuple(row.loss for _, row in runs)
        norms = tuple(row.largest_matrix_norm for _, row in runs)
        lines.append(RatesLine(tuned.order, tuned.line, multiples, losses, norms))
    first = groups[0][0]
    return RatesData(tuple(lines), f"{first.shape}, {format_number(first.tokens)} tokens")


def rates_figure(data: RatesData) -> Figure:
    """Loss, and the largest spectral norm where it is known, of every tuned line around its best rate."""
    panels = [("loss", "validation loss (nats/token)", "linear")]
    if any(norm is not None for line in data.lines for norm in line.matrix_norm):
        panels.append(("matrix_norm", "largest spectral norm of a matrix", "log"))
    figure = new_figure(4.2 * len(panels) + 1.4, 3.9)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (column, label, scale) in zip(axes, panels, strict=True):
        ax.set_xscale("log")
        ax.set_yscale(scale)
        draw_rates(data, column, ax)
        ax.set_xlabel("rate / best rate of the line")
        ax.set_ylabel(label)
    axes[0].set_title(data.title)
    right = max(multiple for line in data.lines for multiple in line.multiple)
    end_labels(axes[-1], [(line.order, line.name, right, _last(line, panels[-1][0])) for line in data.lines])
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


def _caption(data: RatesData) -> str:
    return (
        "Runs around the best rate of each line, over seeds: on the left the loss (mean and one standard "
        "deviation), on the right the largest spectral norm of any matrix at any time measured (geometric). A "
        "cross at the top marks a rate at which a run diverged."
    )


def _last(line: RatesLine, column: str) -> float:
    """The mean at the largest multiple at which a run of the line has `column`."""
    points = [(m, v) for m, v in zip(line.multiple, getattr(line, column), strict=True) if v is not None]
    return float(np.mean([value for multiple, value in points if multiple == max(points)[0]]))


RATES = StudyFigure("rates", rates_data, rates_figure, _caption, lambda data: 60)
