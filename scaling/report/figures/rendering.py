"""From a drawing to files: SVG, PNG and PDF. The same numbers give the same bytes: no dates, fixed ids."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.files import JsonObject, write_atomic
from scaling.report.figures.hover import HoverPoint, hover_points
from scaling.report.figures.labels import short_names, show_names
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


def render(name: str, draw: Callable[[], Figure], lines: Sequence[str]) -> Rendered:
    """The figure that `draw` makes.

    Args:
        name: keeps the ids of two drawings apart.
        draw: makes it.
        lines: their names, which are shortened where they are too long for a figure.
    """
    import matplotlib

    rendered = {}
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")  # drawn as a box
        figure = draw()
        show_names(figure, short_names(lines))
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
