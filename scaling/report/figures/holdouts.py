"""Rolling hold-outs: the largest budgets predicted from the others, in standard deviations of the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.analysis.study import Study
from scaling.laws.rolling_holdouts import Z_95
from scaling.report.figures.axes import Numbers, compute_ticks, names_key, new_figure
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import GRID, SOFT, as_image, colour, marker, opacity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class HeldOutRuns:
    """Runs of one line, predicted without its `budgets` largest budgets."""

    order: int
    name: str
    budgets: int
    compute: Numbers
    deviations: Numbers


@dataclass(frozen=True)
class HoldoutsData:
    """Every line and number of held-out budgets, and how compute is counted."""

    runs: tuple[HeldOutRuns, ...]
    convention: str

    @property
    def inside(self) -> tuple[int, int]:
        """Runs inside their 95 % interval, and all runs."""
        every = [z for runs in self.runs for z in runs.deviations]
        return sum(abs(z) <= Z_95 for z in every), len(every)


def holdouts_data(study: Study) -> HoldoutsData | None:
    """The hold-outs of every line that has some; None where none has."""
    runs = [
        HeldOutRuns(line.order, line.name, held.budgets, tuple(held.compute.tolist()), tuple(held.deviations.tolist()))
        for line in study.lines
        if line.law is not None and line.extrapolation is not None
        for held in line.extrapolation.held_out
    ]
    return HoldoutsData(tuple(runs), study.convention) if runs else None


def holdouts_figure(data: HoldoutsData) -> Figure:
    """One axes."""
    figure = new_figure(6.4, 3.0)
    draw_holdouts(data, figure.subplots())
    return figure


def draw_holdouts(data: HoldoutsData, ax: Axes) -> None:
    """Deviations against compute: filled where one budget was left out, open where more were."""
    ax.set_xscale("log")
    ax.axhspan(-Z_95, Z_95, color=GRID, zorder=0)
    ax.axhline(0, color=SOFT, linewidth=0.8)
    places = []
    for runs in data.runs:
        shift = 1.0 + 0.04 * (runs.order - 1) + 0.1 * (runs.budgets - 1)
        places += [c * shift for c in runs.compute]
        ax.plot(
            [c * shift for c in runs.compute],
            runs.deviations,
            marker(runs.order),
            color=colour(runs.order),
            markersize=4.5 - runs.budgets / 2,
            markerfacecolor=colour(runs.order) if runs.budgets == 1 else "none",
            alpha=opacity(runs.compute, 1.0),
            rasterized=as_image(runs.compute),
        )
    compute_ticks(ax, [c for runs in data.runs for c in runs.compute])
    ax.set_xlim(right=max(ax.get_xlim()[1], max(places) * 1.1))
    reach = max(3.0, *(abs(z) for runs in data.runs for z in runs.deviations)) * 1.15
    ax.set(
        xlabel=f"training compute C (FLOPs, {data.convention})",
        ylabel="measured − predicted\n(standard deviations)",
        ylim=(-reach, reach),
    )
    names_key(ax, list(dict.fromkeys((runs.order, runs.name) for runs in data.runs)))


def _caption(data: HoldoutsData) -> str:
    inside, every = data.inside
    return (
        "The largest budget predicted from the smaller ones (filled), and two or three budgets from those below them "
        f"(open). Grey: the 95 % interval of one run, which held {inside} of {every}."
    )


HOLDOUTS = StudyFigure("holdouts", holdouts_data, holdouts_figure, _caption, lambda data: 42)
