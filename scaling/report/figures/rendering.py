"""From a drawing to files: SVG, PNG and PDF. The same numbers give the same bytes: no dates, fixed ids."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.files import JsonObject, write_atomic
from scaling.report.figures.hover import HoverPoint, hover_points
from scaling.report.figures.style import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMATS: dict[str, JsonObject] = {
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "png": {"metadata": {"Software": None}, "dpi": 160, "facecolor": "white"},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


@dataclass(frozen=True)
class Rendered:
    """A figure as the bytes of every format, and the values to show near its markers."""

    files: dict[str, bytes]
    hover: tuple[HoverPoint, ...]


def render(name: str, draw: Callable[[], Figure]) -> Rendered:
    """The figure that `draw` makes; `name` keeps the ids of two drawings apart."""
    import matplotlib

    rendered = {}
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = draw()
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # laid out once: every format has the same places, and is drawn once, not twice
        for kind, options in _FORMATS.items():
            out = io.BytesIO()
            figure.savefig(out, format=kind, **options)
            rendered[kind] = out.getvalue()
        return Rendered(rendered, hover_points(figure))


def write_figure(folder: Path, name: str, rendered: Rendered) -> list[Path]:
    """Write `<name>.svg`, `.png` and `.pdf`."""
    paths = [folder / f"{name}.{kind}" for kind in rendered.files]
    for path, content in zip(paths, rendered.files.values(), strict=True):
        write_atomic(path, content)
    return paths
