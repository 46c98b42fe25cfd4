"""The fitted loss over N and D, with the cells and the compute-optimal models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.lines import Line
from scaling.analysis.study import Study
from scaling.report.figures.axes import Numbers, new_figure, set_log_ticks
from scaling.report.figures.law_bands import cell_compute
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import SOFT, as_image, colour, marker, opacity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 4  # the first lines with a determined law
_GRID = 48


@dataclass(frozen=True)
class SurfacePanel:
    """One line: its cells, its law on a grid, and its compute-optimal models; losses in nats/token.

    `loss[i][j]` is at `tokens[i]` and `params[j]`.
    """

    order: int
    name: str
    cell_params: Numbers
    cell_tokens: Numbers
    params: Numbers
    tokens: Numbers
    loss: tuple[Numbers, ...]
    best_params: Numbers
    best_tokens: Numbers


@dataclass(frozen=True)
class SurfaceData:
    """The panels, and what N counts."""

    panels: tuple[SurfacePanel, ...]
    params_label: str


def surface_data(study: Study) -> SurfaceData | None:
    """The law of the first lines that have a determined one; None where none has."""
    panels = [panel for line in study.lines if (panel := _panel(line)) is not None]
    return SurfaceData(tuple(panels[:PANELS]), study.settings.params_column) if panels else None


def _panel(line: Line) -> SurfacePanel | None:
    if line.law is None or line.frontier is None or line.undetermined:
        return None
    n, d = (np.array([getattr(cell, name) for cell in line.cells]) for name in ("params", "tokens"))
    params, tokens = (np.geomspace(v.min() / 1.3, v.max() * 1.3, _GRID) for v in (n, d))
    wide, high = np.meshgrid(params, tokens)
    loss = line.law.fit.loss(wide.ravel(), high.ravel(), 6.0 * wide.ravel() * high.ravel()).reshape(wide.shape)
    compute = [cell_compute(cell) for cell in line.cells]
    best = line.frontier.curve(np.geomspace(min(compute), max(compute), _GRID))
    return SurfacePanel(
        line.order,
        line.name,
        tuple(n.tolist()),
        tuple(d.tolist()),
        tuple(params.tolist()),
        tuple(tokens.tolist()),
        tuple(tuple(float(x) for x in row) for row in loss),
        tuple(float(x) for x in best["params"]),
        tuple(float(x) for x in best["tokens"]),
    )


def surface_figure(data: SurfaceData) -> Figure:
    """A panel per line."""
    columns = min(len(data.panels), 2)
    rows = -(-len(data.panels) // columns)
    figure = new_figure(3.7 * columns, 3.2 * rows)
    for place, (ax, panel) in enumerate(
        zip(figure.subplots(rows, columns, squeeze=False).flat, data.panels, strict=False)
    ):
        draw_surface(panel, ax)
        ax.set_ylabel("training tokens D" if place % columns == 0 else "")
        ax.set_xlabel(f"parameters N ({data.params_label})" if place + columns >= len(data.panels) else "")
    for ax in figure.axes[len(data.panels) :]:
        ax.set_axis_off()
    return figure


def draw_surface(panel: SurfacePanel, ax: Axes) -> None:
    """Contours of the law's loss, the cells, and the line of compute-optimal models."""
    ax.set(xscale="log", yscale="log", title=panel.name)
    lines = ax.contour(panel.params, panel.tokens, panel.loss, levels=8, colors=SOFT, linewidths=0.7)
    ax.clabel(lines, fmt=lambda loss: f"{loss:.2f}", fontsize=6.5)
    ax.plot(
        panel.cell_params,
        panel.cell_tokens,
        marker(panel.order),
        color=colour(panel.order),
        markersize=3.5,
        alpha=opacity(panel.cell_params, 0.7),
        zorder=1.5,  # below the contours
        rasterized=as_image(panel.cell_params),
    )
    ax.plot(panel.best_params, panel.best_tokens, color=colour(panel.order), linewidth=1.8)
    set_log_ticks(ax.xaxis, panel.params[0], panel.params[-1])
    set_log_ticks(ax.yaxis, panel.tokens[0], panel.tokens[-1])
    ax.set(xlim=(panel.params[0], panel.params[-1]), ylim=(panel.tokens[0], panel.tokens[-1]))


def _caption(data: SurfaceData) -> str:
    return (
        "The loss of each law (contours, nats/token) over N and D. Markers: the cells; the line: the models that are "
        "compute-optimal, over the trained compute."
    )


SURFACE = StudyFigure("surface", surface_data, surface_figure, _caption, lambda data: 26 * min(len(data.panels), 2))
