"""The style of every figure: colours, markers and themes.

Lines are told apart by colour, marker and a label beside the curve; the first colours are Okabe and Ito's (2008), safe
for colour-blind readers, and budgets a light-to-dark ramp. `themed` turns the colours of an SVG into CSS variables, so
that one drawing is readable on a white page, on a dark one and on paper.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

INK = "#23262d"  # text and axes
SOFT = "#8a8f99"  # notes and reference lines
GRID = "#e3e5e9"
# (light page, dark page) of every series, in the order of the lines.
SERIES: tuple[tuple[str, str], ...] = (
    ("#0072b2", "#4aa8e0"),
    ("#d55e00", "#f08a3c"),
    ("#009e73", "#2fc49a"),
    ("#cc79a7", "#e39cc4"),
)
SERIES += (("#b58400", "#e6b422"), ("#5b6abf", "#98a4f2"), ("#6f4a2d", "#c79a75"), ("#3fa9c9", "#86d3ea"))
MARKERS = ("o", "s", "^", "D", "v", "P", "p", "*")
# Budgets from small to large.
RAMP: tuple[tuple[str, str], ...] = (
    ("#6f9fc8", "#4d74a3"),
    ("#7f86c0", "#6d86bb"),
    ("#8c6bb1", "#8c8fd0"),
    ("#88419d", "#bd9be6"),
)
RAMP += (("#6e016b", "#ecc2f2"),)
_NEUTRAL = ((INK, "#e8eaee"), (SOFT, "#9aa0ab"), (GRID, "#33373f"))
_NAMES = {INK: "--ink", SOFT: "--soft", GRID: "--grid"}
_NAMES |= {light: f"--series-{n}" for n, (light, _) in enumerate(SERIES)}
_NAMES |= {light: f"--ramp-{n}" for n, (light, _) in enumerate(RAMP)}

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure everywhere
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.color": SOFT,
    "hatch.linewidth": 0.7,
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


_OPAQUE = 200  # markers of one line that hardly overlap
MANY_POINTS = 2_000  # markers of one line beyond which they are drawn as one image, or a page has megabytes of circles


def as_image(points: Sequence[float | None]) -> bool:
    """Whether the markers of so many points are drawn as one image in SVG and PDF."""
    return len(points) > MANY_POINTS


def opacity(points: Sequence[float | None], usual: float) -> float:
    """Of the markers of so many points: many lie upon each other, and hide what is drawn with them."""
    return usual * min(1.0, math.sqrt(_OPAQUE / max(len(points), 1)))


def colour(n: int) -> str:
    """Colour of line `n`."""
    return SERIES[n % len(SERIES)][0]


def marker(n: int) -> str:
    """Marker of line `n`."""
    return MARKERS[n % len(MARKERS)]


def ramp(count: int) -> list[str]:
    """`count` colours from light to dark."""
    last = len(RAMP) - 1
    return [RAMP[last if count == 1 else round(n * last / (count - 1))][0] for n in range(count)]


def themed(svg: str) -> str:
    """An SVG for a page: its colours as CSS variables, its size left to the page, no XML prologue."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(
        r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"|(<svg [^>]*?)height="[\d.]+pt"', r"\1\2", body, count=1
    )
    body = re.sub(r' width="[\d.]+pt"', "", body, count=1)
    return re.sub("|".join(_NAMES), lambda match: f"var({_NAMES[match.group()]})", body)


def css_variables(dark: bool) -> str:
    """The CSS declarations that `themed` drawings read."""
    pairs = [*_NEUTRAL, *SERIES, *RAMP]
    return " ".join(f"{_NAMES[light]}: {after if dark else light};" for light, after in pairs)


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """`positions` moved as little as needed so that neighbours are at least `gap` apart; for labels beside curves."""
    order = sorted(range(len(positions)), key=lambda n: positions[n])
    groups: list[list[int]] = []
    centres: list[float] = []
    for n in order:
        groups.append([n])
        centres.append(positions[n])
        while len(groups) > 1 and centres[-1] - centres[-2] < gap * (len(groups[-1]) + len(groups[-2])) / 2:
            merged = groups.pop(-2) + groups.pop()
            groups.append(merged)
            del centres[-2:]
            centres.append(sum(positions[i] for i in merged) / len(merged))
    moved = list(positions)
    for group, centre in zip(groups, centres, strict=True):
        for k, n in enumerate(group):
            moved[n] = centre + (k - (len(group) - 1) / 2) * gap
    return moved
