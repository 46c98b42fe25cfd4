"""What the joint law is uncertain about: its exponents, line by line, and the parts of its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.study import Study
from scaling.laws.joint_comparison import JointComparison
from scaling.laws.line_frontiers import line_terms
from scaling.report.figures.axes import Bounds, Numbers, names_key, new_figure
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import SOFT, colour, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TURN = np.linspace(0.0, 2.0 * np.pi, 73)
_INSIDE = 2.448  # of a normal pair, an ellipse of this radius in standard deviations holds 95 %: sqrt(chi2(2, .95))
_NAMES = {"seed": "seed", "scatter": "cell", "budget": "budget", "line_budget": "line × budget"}


@dataclass(frozen=True)
class ExponentPair:
    """α and β of one line, and the 95 % ellipse of its draws."""

    order: int
    name: str
    alpha: float
    beta: float
    ellipse_alpha: Numbers
    ellipse_beta: Numbers


@dataclass(frozen=True)
class UncertaintyData:
    """Exponents of the lines, and parts of the noise: names, standard deviations and 95 % intervals, nats/token."""

    pairs: tuple[ExponentPair, ...]
    parts: tuple[str, ...]
    value: Bounds
    low: Numbers
    high: Numbers


def uncertainty_data(study: Study) -> UncertaintyData | None:
    """Of the joint law M3; None where the lines have none with draws."""
    joint = study.joint
    if not isinstance(joint, JointComparison) or (own := joint.models.get("M3")) is None:
        return None
    orders = {line.name: line.order for line in study.lines}
    pairs = []
    for name in own.fit.layout.lines:
        best, drawn = (line_terms(own.fit, name, rows) for rows in (own.fit.vector[None], own.draws.vectors))
        draws = np.array([drawn.alpha, drawn.beta])
        middle, factor = np.median(draws, axis=1), np.linalg.cholesky(np.cov(draws) + 1e-12 * np.eye(2))
        around = middle[:, None] + _INSIDE * factor @ np.array([np.cos(_TURN), np.sin(_TURN)])
        values = float(best.alpha[0]), float(best.beta[0])
        pairs.append(ExponentPair(orders[name], name, *values, *(tuple(row.tolist()) for row in around)))
    summary = joint.noise.summary
    found = {shown: part for key, shown in _NAMES.items() if (part := getattr(summary, key)) is not None}
    return UncertaintyData(
        tuple(pairs),
        tuple(found),
        tuple(part.value for part in found.values()),
        tuple(part.interval[0] for part in found.values()),
        tuple(part.interval[1] for part in found.values()),
    )


def uncertainty_figure(data: UncertaintyData) -> Figure:
    """Exponents left, noise right."""
    figure = new_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    draw_exponents(data, left)
    draw_noise(data, right)
    return figure


def draw_exponents(data: UncertaintyData, ax: Axes) -> None:
    """β against α of every line with the 95 % ellipse of its draws."""
    for pair in data.pairs:
        own = colour(pair.order)
        ax.plot(pair.ellipse_alpha, pair.ellipse_beta, color=own, linewidth=1.0)
        ax.plot([pair.alpha], [pair.beta], marker(pair.order), color=own, markersize=5)
    ax.set(xlabel="α, exponent of N", ylabel="β, exponent of D")
    names_key(ax, [(pair.order, pair.name) for pair in data.pairs], inside=0)


def draw_noise(data: UncertaintyData, ax: Axes) -> None:
    """Standard deviation of every part with its 95 % interval."""
    for row, (value, low, high) in enumerate(zip(data.value, data.low, data.high, strict=True)):
        ax.plot([low, high], [row, row], color=SOFT, linewidth=2)
        if value is not None:
            ax.plot([value], [row], "o", color=SOFT, markersize=6)
    ax.set(yticks=range(len(data.parts)), yticklabels=data.parts, ylim=(len(data.parts) - 0.5, -0.5), xlim=(0, None))
    ax.set_xlabel("standard deviation (nats/token)")


def _caption(data: UncertaintyData) -> str:
    return (
        "Left: the exponents of the joint law, each with the ellipse that holds 95 % of its draws: α and β are "
        "uncertain together. Right: the parts of the noise around that law, with 95 % intervals: of a seed, of a cell "
        "beyond its seeds, and of what the runs of a budget, or of one line at a budget, share."
    )


UNCERTAINTY = StudyFigure("uncertainty", uncertainty_data, uncertainty_figure, _caption, lambda data: 46)
