"""Training curves as small multiples, a panel per line, from the `curves.csv` of a results folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.study import Study
from scaling.report.figures.axes import Numbers, compute_label, new_figure, set_log_ticks
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import SOFT, ramp
from scaling.results.curves import NAME, SPIKE_RISE_NATS, read_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

PANELS, RUNS = 6, 60  # lines drawn, and runs of each
SMOOTHED = 5  # logged steps of the running mean that is drawn
SPIKE_RISES = 8.0  # a spike rises by this many times the run's median change between logged steps (assumption)


@dataclass(frozen=True)
class TrainingCurve:
    """One run: tokens and mean training loss (nats/token) of its logged steps."""

    budget: float | None
    tokens: Numbers
    loss: Numbers

    @property
    def spikes(self) -> list[int]:
        """Places where the loss rose far over the point before, the first tenth of the run left out."""
        change = np.diff(self.loss)
        if len(change) < 10:
            return []
        first = len(change) // 10
        least = max(SPIKE_RISE_NATS, SPIKE_RISES * float(np.median(np.abs(change[first:]))))
        return [int(n) + 1 for n in np.flatnonzero(change > least) if n >= first]

    @property
    def smooth(self) -> tuple[FloatArray, FloatArray]:
        """Tokens and loss as running means over `SMOOTHED` points."""
        width = min(SMOOTHED, len(self.loss))
        kernel = np.full(width, 1.0 / width)
        return np.convolve(self.tokens, kernel, "valid"), np.convolve(self.loss, kernel, "valid")


@dataclass(frozen=True)
class CurvesData:
    """The curves of each line, with its name."""

    panels: tuple[tuple[str, tuple[TrainingCurve, ...]], ...]

    @property
    def shades(self) -> dict[float | None, str]:
        """The colour of every budget, from light to dark: those of the isoFLOP curves."""
        budgets = sorted({one.budget for _, curves in self.panels for one in curves if one.budget is not None})
        return {None: SOFT, **dict(zip(budgets, ramp(len(budgets)), strict=True))}


def curves_data(study: Study, folder: Path) -> CurvesData | None:
    """The curves of the study's runs; None without a `curves.csv`.

    Raises:
        DataError: curves.csv is damaged.
    """
    if not (folder / NAME).is_file():
        return None
    known = read_curves(folder / NAME)
    panels = []
    for line in study.lines[:PANELS]:
        runs = [(cell.budget, row.id) for cell in line.cells for row in cell.rows if row.id in known]
        curves = []
        for budget, name in runs[:RUNS]:
            points = [(p["tokens"], p["loss"]) for p in known[name] if p["tokens"] and p["loss"] is not None]
            if points:
                tokens, losses = zip(*((float(t or 0), float(loss or 0)) for t, loss in points), strict=True)
                curves.append(TrainingCurve(budget, tokens, losses))
        if curves:
            panels.append((line.name, tuple(curves)))
    return CurvesData(tuple(panels)) if panels else None


def curves_figure(data: CurvesData) -> Figure:
    """Panels with shared axes, at most three side by side."""
    columns = min(len(data.panels), 3)
    rows = -(-len(data.panels) // columns)
    figure = new_figure(2.6 * columns, 2.3 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for place, (ax, (name, curves)) in enumerate(zip(axes, data.panels, strict=False)):
        draw_curves(curves, ax, data.shades)
        ax.set_title(name)
        ax.set_ylabel("training loss (nats/token)" if place % columns == 0 else "")
        if place + columns >= len(data.panels):
            ax.set_xlabel("training tokens")
            ax.tick_params(labelbottom=True)
    for ax in figure.axes[len(data.panels) :]:
        ax.set_axis_off()
    tokens, losses = (np.concatenate([one.smooth[k] for _, curves in data.panels for one in curves]) for k in (0, 1))
    top, shown = float(np.quantile(losses, 0.98)), tokens[losses <= np.quantile(losses, 0.98)]
    set_log_ticks(figure.axes[0].xaxis, float(shown.min()), float(shown.max()))
    figure.axes[0].set(ylim=(float(losses.min()) - 0.05, top), xlim=(float(shown.min()), 1.1 * float(shown.max())))
    keys = [(compute_label(budget), shade) for budget, shade in data.shades.items() if budget is not None]
    for row, (label, shade) in enumerate(keys):
        figure.axes[0].annotate(
            label, (0.97, 0.97), xytext=(0, -10 * row), xycoords="axes fraction", textcoords="offset points",
            ha="right", va="top", color=shade, fontsize=7.5,
        )  # fmt: skip
    return figure


def draw_curves(curves: tuple[TrainingCurve, ...], ax: Axes, shades: dict[float | None, str]) -> None:
    """Loss against tokens; a cross where it rose in one step of the log."""
    ax.set_xscale("log")
    for one in curves:
        ax.plot(*one.smooth, color=shades[one.budget], linewidth=0.7, alpha=0.8, rasterized=len(curves) > 12)
        spikes = one.spikes
        ax.plot(
            [one.tokens[n] for n in spikes], [one.loss[n] for n in spikes], "x", color=shades[one.budget], markersize=4
        )


def _caption(data: CurvesData) -> str:
    spiked = sum(bool(one.spikes) for _, curves in data.panels for one in curves)
    runs = sum(len(curves) for _, curves in data.panels)
    return (
        f"Training loss, one curve a run (running mean of {SMOOTHED} logged steps), coloured by budget. A cross: a "
        f"spike, that is a rise of over {SPIKE_RISE_NATS:g} nats/token and {SPIKE_RISES:g} times the run's median "
        f"change from one logged step to the next, the first tenth of a run left out ({spiked} of {runs} runs)."
    )


def training_curves(folder: Path) -> StudyFigure[CurvesData]:
    """The figure for one results folder."""
    return StudyFigure("curves", partial(curves_data, folder=folder), curves_figure, _caption, lambda data: 46)
