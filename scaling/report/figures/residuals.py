"""Measured minus fitted loss of every cell, below the frontier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.lines import Line
from scaling.analysis.study import Study
from scaling.laws.line_study import LineStudy
from scaling.report.figures.axes import Bounds, Numbers
from scaling.report.figures.law_bands import cell_compute
from scaling.report.figures.style import GRID, SOFT, as_image, colour, marker, opacity

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ResidualsLine:
    """The cells of one line; a residual is measured minus fitted, in nats, None where the line has no law."""

    order: int
    compute: Numbers
    residual: Bounds


@dataclass(frozen=True)
class ResidualsData:
    """Residuals against compute, and the seed noise to compare them with."""

    lines: tuple[ResidualsLine, ...]
    seed_noise_nats: float | None


def residuals_data(study: Study) -> ResidualsData:
    """The residual of every cell of every line."""
    lines = [
        ResidualsLine(line.order, tuple(cell_compute(cell) for cell in line.cells), _residuals(line))
        for line in study.lines
    ]
    return ResidualsData(tuple(lines), study.noise.sigma if study.noise else None)


def draw_residuals(data: ResidualsData, ax: Axes) -> None:
    """Measured minus fitted loss of every cell, with two standard deviations between seeds as a grey band."""
    draw_zero(ax, data.seed_noise_nats)
    for line in data.lines:
        shift = 1.0 + 0.03 * (line.order - 1)
        ax.plot(
            [c * shift for c, r in zip(line.compute, line.residual, strict=True) if r is not None],
            [r for r in line.residual if r is not None],
            marker(line.order),
            color=colour(line.order),
            markersize=3.5,
            alpha=opacity(line.residual, 1.0),
            rasterized=as_image(line.residual),
        )
    ax.set_ylabel("measured − law\n(nats)")


def draw_zero(ax: Axes, seed_noise_nats: float | None) -> None:
    """The line of no residual, and two standard deviations between seeds as a grey band where they are known."""
    ax.axhline(0, color=SOFT, linewidth=0.8)
    if seed_noise_nats is not None:
        ax.axhspan(-2 * seed_noise_nats, 2 * seed_noise_nats, color=GRID, zorder=0)


def fitted_losses(line: Line, law: LineStudy) -> Numbers:
    """The loss that the law of a line gives each of its cells, nats/token."""
    n, d = (np.array([getattr(cell, name) for cell in line.cells]) for name in ("params", "tokens"))
    compute = np.array([cell_compute(cell) for cell in line.cells])
    return tuple(float(loss) for loss in law.fit.loss(n, d, compute))


def _residuals(line: Line) -> Bounds:
    if line.law is None:
        return (None,) * len(line.cells)
    return tuple(cell.loss - value for cell, value in zip(line.cells, fitted_losses(line, line.law), strict=True))
