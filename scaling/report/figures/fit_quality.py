"""Whether the laws meet their points: predicted against measured, and what is left against N, D and steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.analysis.study import Study
from scaling.report.figures.axes import Bounds, Numbers, names_key, new_figure, set_log_ticks
from scaling.report.figures.residuals import draw_zero, fitted_losses
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import GRID, SOFT, as_image, colour, marker, opacity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FittedLine:
    """The cells of one line with a law; losses in nats/token, `steps` None where they are not known."""

    order: int
    name: str
    params: Numbers
    tokens: Numbers
    steps: Bounds
    measured: Numbers
    fitted: Numbers

    @property
    def residual(self) -> Numbers:
        """Measured minus fitted, nats."""
        return tuple(a - b for a, b in zip(self.measured, self.fitted, strict=True))


@dataclass(frozen=True)
class FitQualityData:
    """Every line that has a law, and the seed noise to compare residuals with."""

    lines: tuple[FittedLine, ...]
    params_label: str
    seed_noise_nats: float | None


def fit_quality_data(study: Study) -> FitQualityData | None:
    """Measured and fitted losses of every line with a law; None where there is none."""
    lines = []
    for line in study.lines:
        if line.law is None:
            continue
        lines.append(
            FittedLine(
                line.order,
                line.name,
                tuple(cell.params for cell in line.cells),
                tuple(cell.tokens for cell in line.cells),
                tuple(cell.row.number("steps") for cell in line.cells),
                tuple(cell.loss for cell in line.cells),
                fitted_losses(line, line.law),
            )
        )
    if not lines:
        return None
    return FitQualityData(tuple(lines), study.settings.params_column, study.noise.sigma if study.noise else None)


def fit_quality_figure(data: FitQualityData) -> Figure:
    """Predicted against measured; residuals against N, D and, where they are known, steps."""
    figure = new_figure(7.2, 5.4)
    axes = figure.subplots(2, 2).flat
    draw_predicted(data, axes[0])
    draw_residual(data, axes[1], "params", f"parameters N ({data.params_label})")
    draw_residual(data, axes[2], "tokens", "training tokens D")
    if any(step is not None for line in data.lines for step in line.steps):
        draw_residual(data, axes[3], "steps", "training steps")
    else:
        axes[3].set_axis_off()
        axes[3].text(0.5, 0.5, "steps are not recorded", ha="center", color=SOFT, transform=axes[3].transAxes)
    return figure


def draw_predicted(data: FitQualityData, ax: Axes) -> None:
    """The loss of the law of each cell against its measured loss; on the grey line they are equal."""
    values = [loss for line in data.lines for loss in (*line.measured, *line.fitted)]
    ends = (min(values), max(values))
    ax.plot(ends, ends, color=GRID, zorder=0)
    for line in data.lines:
        _markers(ax, line.order, line.measured, line.fitted)
    ax.set(xlabel="measured loss (nats/token)", ylabel="loss of the law (nats/token)")
    names_key(ax, [(line.order, line.name) for line in data.lines])


def draw_residual(data: FitQualityData, ax: Axes, along: str, label: str) -> None:
    """Measured minus fitted loss against `params`, `tokens` or `steps`, with twice the seed noise in grey."""
    ax.set_xscale("log")
    draw_zero(ax, data.seed_noise_nats)
    seen: list[float] = []
    for line in data.lines:
        known = [(x, y) for x, y in zip(getattr(line, along), line.residual, strict=True) if x]
        seen += [x for x, _ in known]
        _markers(ax, line.order, [x for x, _ in known], [y for _, y in known])
    set_log_ticks(ax.xaxis, min(seen), max(seen))
    ax.set(xlabel=label, ylabel="measured − law (nats)")


def _markers(ax: Axes, order: int, x: Numbers | list[float], y: Numbers | list[float]) -> None:
    ax.plot(x, y, marker(order), color=colour(order), markersize=3.5, alpha=opacity(x, 0.8), rasterized=as_image(x))


def _caption(data: FitQualityData) -> str:
    noise = " Grey: twice the seed noise." if data.seed_noise_nats is not None else ""
    return (
        "Does each law meet its cells? A trend along N, D or steps is a form that does not fit, or a recipe that "
        f"changes along it.{noise}"
    )


FIT_QUALITY = StudyFigure("fit", fit_quality_data, fit_quality_figure, _caption, lambda data: 46)
