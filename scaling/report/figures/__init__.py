"""Every figure of the report, in the order of the page; the only folder that imports matplotlib.

A figure is one file: the dataclass of its numbers with `*_data(study)`, its drawing, its caption, and a `StudyFigure`
that is registered here. Every drawing says its units on its axes, labels its curves where they end, and shows its
uncertainty as a band or a bar. Shared are `style` (the look), `axes` (pieces of axes), `law_bands` (a law along
compute) and `rendering` (SVG, PNG and PDF).
"""

from __future__ import annotations

from typing import Any

from scaling.report.figures.difference import DIFFERENCE
from scaling.report.figures.fit_quality import FIT_QUALITY
from scaling.report.figures.frontier import FRONTIER
from scaling.report.figures.holdouts import HOLDOUTS
from scaling.report.figures.isoflop import ISOFLOP
from scaling.report.figures.optima import OPTIMA
from scaling.report.figures.rank import RANK
from scaling.report.figures.rates import RATES
from scaling.report.figures.serving import SERVING
from scaling.report.figures.serving_choice import CHEAPEST_MAP, MEMORY
from scaling.report.figures.serving_costs import COST_RATIOS, LIVES
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.surface import SURFACE
from scaling.report.figures.uncertainty import UNCERTAINTY

FIGURES: tuple[StudyFigure[Any], ...] = (
    DIFFERENCE,
    RANK,
    ISOFLOP,
    OPTIMA,
    FRONTIER,
    SURFACE,
    FIT_QUALITY,
    HOLDOUTS,
    UNCERTAINTY,
    RATES,
    SERVING,
    COST_RATIOS,
    LIVES,
    CHEAPEST_MAP,
    MEMORY,
)
