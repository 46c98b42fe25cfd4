"""What a page shows when the pointer is near a marker: its place in the SVG and its values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scaling.quantity import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

HoverPoint = tuple[float, float, str]
"""x and y in the units of the SVG's viewBox, and what to show."""

POINTS = 600  # of one figure; a table of thousands of points is drawn as one image and has no values to hover
_POINTS_PER_INCH = 72.0


def hover_points(figure: Figure) -> tuple[HoverPoint, ...]:
    """Every marker of a figure that is laid out."""
    marked = [(ax, line) for ax in figure.axes for line in ax.lines if _has_markers(ax, line)]
    if sum(np.size(line.get_xdata()) for _, line in marked) > POINTS:
        return ()
    return tuple(point for ax, line in marked for point in _of_line(ax, line, figure))


def _has_markers(ax: Axes, line: Line2D) -> bool:
    return line.get_marker() not in (None, "", "None", "none", " ") and line.get_transform() == ax.transData


def _of_line(ax: Axes, line: Line2D, figure: Figure) -> list[HoverPoint]:
    scale, height = _POINTS_PER_INCH / figure.dpi, figure.get_figheight() * _POINTS_PER_INCH
    names = [label.split(" (")[0] or name for label, name in ((ax.get_xlabel(), "x"), (ax.get_ylabel(), "y"))]
    values = np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)])
    found = []
    for (x, y), (left, up) in zip(values, ax.transData.transform(values), strict=True):
        if np.isfinite([left, up]).all():
            text = f"{names[0]} {format_number(float(x))}, {names[1]} {format_number(float(y), 4)}"
            found.append((round(left * scale, 1), round(height - up * scale, 1), text))
    return found
