"""Figures of a study for a script or a notebook: into an `ax`, or as a whole by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.analysis.study import Study
from scaling.errors import DataError
from scaling.report.figures import FIGURES
from scaling.report.figures.difference import difference_data, draw_difference
from scaling.report.figures.isoflop import draw_isoflop, isoflop_data, shades_of
from scaling.report.figures.style import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plots:
    """Figures of a study: into an `ax`, or as a whole by name."""

    study: Study

    def isoflop(self, line: str | None = None, ax: Axes | None = None) -> Axes:
        """Loss against N at every budget of one line (the reference unless named)."""
        data = isoflop_data(self.study)
        panels = {panel.line: panel for panel in data.panels} if data else {}
        name = line or self.study.reference.name
        if name not in panels:
            raise DataError(
                "no isoFLOP curves of this line", got=name, allowed=", ".join(panels) or "lines with budgets"
            )
        assert data is not None
        ax = ax or _new_axes()
        draw_isoflop(panels[name], ax, shades_of(data))
        ax.set(xlabel=f"parameters N ({data.params_label})", ylabel="validation loss (nats/token)")
        return ax

    def difference(self, ax: Axes | None = None) -> Axes:
        """Loss of every line minus the reference's at equal compute."""
        data = difference_data(self.study)
        if data is None:
            raise DataError("no line is compared", got="; ".join(self.study.not_compared.values()) or "one line")
        ax = ax or _new_axes()
        draw_difference(data, ax)
        return ax

    def figure(self, name: str) -> Figure:
        """A whole figure of the report by its name."""
        by_name = {figure.name: figure for figure in FIGURES}
        if name not in by_name:
            raise DataError("no such figure", got=name, allowed=", ".join(by_name))
        data = by_name[name].data(self.study)
        if data is None:
            raise DataError("this figure has nothing to show here", got=name)
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return by_name[name].draw(data)


def _new_axes() -> Axes:
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        return pyplot.subplots(layout="constrained")[1]
