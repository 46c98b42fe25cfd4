"""The compute-optimal loss of every line against compute, and below it the residuals of the laws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.analysis.study import Study
from scaling.report.figures.axes import Numbers, compute_ticks, end_labels, new_figure
from scaling.report.figures.law_bands import LawBand, cell_compute, draw_band, law_band, shade_trained
from scaling.report.figures.residuals import ResidualsData, draw_residuals, residuals_data
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import SOFT, as_image, colour, marker, opacity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FrontierLine:
    """Every cell of one line, and the frontier loss of its law."""

    order: int
    name: str
    compute: Numbers
    loss: Numbers
    law: LawBand | None


@dataclass(frozen=True)
class FrontierData:
    """Loss against compute; `held_out` is the smallest compute that hold-outs predicted from what is below it."""

    lines: tuple[FrontierLine, ...]
    residuals: ResidualsData
    held_out: float | None
    convention: str


def frontier_data(study: Study) -> FrontierData | None:
    """The cells of every line, its loss frontier and the residuals; None where no line has budgets or a frontier."""
    if not any(line.frontier or line.budgets for line in study.lines):
        return None
    lines = [
        FrontierLine(
            line.order,
            line.name,
            tuple(cell_compute(cell) for cell in line.cells),
            tuple(cell.loss for cell in line.cells),
            law_band(line, "loss"),
        )
        for line in study.lines
    ]
    held = [
        float(one.compute.min())
        for line in study.lines
        if line.law and line.extrapolation
        for one in line.extrapolation.held_out
    ]
    return FrontierData(tuple(lines), residuals_data(study), min(held, default=None), study.convention)


def frontier_figure(data: FrontierData) -> Figure:
    """The loss frontier of every line with its band; below, the residuals of the laws."""
    figure = new_figure(6.4, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1.3), "hspace": 0.1})
    draw_frontier(data, upper)
    draw_residuals(data.residuals, lower)
    lower.set_xlabel(f"training compute C (FLOPs, {data.convention})")
    return figure


def draw_frontier(data: FrontierData, ax: Axes) -> None:
    """Least loss against compute; faint dots are the cells."""
    ax.set_xscale("log")
    ax.set_ylabel("validation loss (nats/token)")
    ends = []
    for line in data.lines:
        ax.plot(
            line.compute,
            line.loss,
            marker(line.order),
            color=colour(line.order),
            alpha=opacity(line.loss, 0.35),
            markersize=3.5,
            rasterized=as_image(line.loss),
        )
        draw_band(ax, line.law, colour(line.order))
        if line.law:
            ends.append((line.order, line.name, line.law.compute[-1], line.law.value[-1]))
        else:
            best = min(range(len(line.loss)), key=lambda n: line.loss[n])
            ends.append((line.order, f"{line.name} (no law)", line.compute[best], line.loss[best]))
    compute_ticks(ax, [c for line in data.lines for c in line.compute])
    end_labels(ax, ends)
    shade_trained(ax, [line.compute for line in data.lines])
    if data.held_out is not None:
        ax.axvline(data.held_out / 1.12, color=SOFT, linewidth=0.8, linestyle="--", zorder=0.5)
        ax.text(
            data.held_out / 1.08,
            0.99,
            "predicted from the left by hold-outs",
            color=SOFT,
            fontsize=7,
            va="top",
            transform=ax.get_xaxis_transform(),
        )


def _caption(data: FrontierData) -> str:
    return (
        "The lowest loss at a compute: of the forms stacked by their hold-outs where there are several, else of the "
        "line's law, with its 95 % band; faint markers are the cells, above the curve by what their size is off the "
        "optimum and around it by noise. Grey: the compute that was trained. "
        "Below: measured minus fitted loss, with twice the seed noise in grey."
    )


FRONTIER = StudyFigure("frontier", frontier_data, frontier_figure, _caption, lambda data: 42)
