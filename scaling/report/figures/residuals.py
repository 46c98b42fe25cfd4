"""Measured minus fitted loss of every cell, below the frontier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.lines import Line
from scaling.analysis.study import Study
from scaling.report.figures.axes import Bounds, Numbers
from scaling.report.figures.law_bands import cell_compute
from scaling.report.figures.style import GRID, SOFT, as_image, colour, marker

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
    ax.axhline(0, color=SOFT, linewidth=0.8)
    if data.seed_noise_nats is not None:
        ax.axhspan(-2 * data.seed_noise_nats, 2 * data.seed_noise_nats, color=GRID, zorder=0)
    for line in data.lines:
        shift = 1.0 + 0.03 * (line.order - 1)
        ax.plot(
            [c * shift for c, r in zip(line.compute, line.residual, strict=True) if r is not None],
            [r for r in line.residual if r is not None],
            marker(line.order),
            color=colour(line.order),
            markersize=3.5,
            rasterized=as_image(line.residual),
        )
    ax.set_ylabel("measured − law\n(nats)")


def _residuals(line: Line) -> Bounds:
    if line.law is None:
        return (None,) * len(line.cells)
    n, d = (np.array([getattr(cell, name) for cell in line.cells]) for name in ("params", "tokens"))
    compute = np.array([cell_compute(cell) for cell in line.cells])
    fitted = line.law.fit.loss(n, d, compute)
    return tuple(cell.loss - float(value) for cell, value in zip(line.cells, fitted, strict=True))
