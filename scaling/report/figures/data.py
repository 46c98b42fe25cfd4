"""The numbers of every figure, apart from its ink (`figures`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np

from scaling.analysis.data_points import Cell
from scaling.analysis.lines import Line
from scaling.analysis.rates import tunings
from scaling.analysis.serving import serving
from scaling.analysis.study import Study
from scaling.laws.frontier import Optimum
from scaling.laws.isoflop import Minimum
from scaling.quantity import format_number

Numbers = tuple[float, ...]
Bounds = tuple[float | None, ...]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Band:
    """A quantity along compute with its 95 % interval; `low` and `high` are empty where there were no draws."""

    compute: Numbers
    value: Numbers
    low: Numbers
    high: Numbers


@dataclass(frozen=True)
class IsoFlopCurve:
    """The cells of one budget, the curve through them (empty where none was fitted) and its minimum (N_opt, loss)."""

    budget: float
    params: Numbers
    loss: Numbers
    loss_sd: Numbers  # standard error of each cell's mean from the seed noise, 0 where that is unknown
    curve_params: Numbers
    curve_loss: Numbers
    optimum: tuple[float, float] | None
    optimum_interval: Interval | None


@dataclass(frozen=True)
class IsoFlopPanel:
    """One line."""

    line: str
    curves: tuple[IsoFlopCurve, ...]


@dataclass(frozen=True)
class IsoFlopData:
    """Loss against N at every budget."""

    panels: tuple[IsoFlopPanel, ...]
    params_label: str


@dataclass(frozen=True)
class OptimaLine:
    """N_opt or D_opt of one line: isoFLOP minima, the parametric law, and the exponent of approach 3."""

    order: int
    name: str
    compute: Numbers
    optimum: Numbers
    low: Bounds
    high: Bounds
    law: Band | None
    exponent: float | None
    exponent_interval: Interval | None


@dataclass(frozen=True)
class OptimaData:
    """N_opt and D_opt against compute."""

    params: tuple[OptimaLine, ...]
    tokens: tuple[OptimaLine, ...]
    params_label: str
    convention: str


@dataclass(frozen=True)
class FrontierLine:
    """Every cell of one line, and the least loss its law can buy. A residual is measured minus fitted, in nats."""

    order: int
    name: str
    compute: Numbers
    loss: Numbers
    residual: Bounds
    law: Band | None


@dataclass(frozen=True)
class FrontierData:
    """Loss against compute."""

    lines: tuple[FrontierLine, ...]
    seed_noise_nats: float | None
    convention: str


@dataclass(frozen=True)
class DifferenceLine:
    """Loss of one line minus the reference's at equal compute, nats, with 95 % intervals."""

    order: int
    name: str
    compute: Numbers
    difference: Numbers
    low: Bounds
    high: Bounds


@dataclass(frozen=True)
class DifferenceData:
    """Differences at equal compute."""

    reference: str
    lines: tuple[DifferenceLine, ...]
    seed_noise_nats: float | None
    convention: str


@dataclass(frozen=True)
class ServingLine:
    """What one line costs to serve at each loss it can reach."""

    order: int
    name: str
    loss: Numbers
    cost: Numbers


@dataclass(frozen=True)
class ServingPanel:
    """One kind of cost."""

    title: str
    unit: str
    lines: tuple[ServingLine, ...]


@dataclass(frozen=True)
class ServingData:
    """Serving cost at equal loss."""

    panels: tuple[ServingPanel, ...]


@dataclass(frozen=True)
class RatesLine:
    """The runs of one line over rates; the loss of a run that diverged is None."""

    order: int
    name: str
    multiple: Numbers  # of the line's best rate
    loss: Bounds
    matrix_norm: Bounds


@dataclass(frozen=True)
class RatesData:
    """What tuned lines do around their best rates."""

    lines: tuple[RatesLine, ...]
    title: str


_LEVELS = 13  # of compute along a band
_BEYOND = 1.25  # a band goes this factor beyond the smallest and the largest budget
_CURVE = 60


def isoflop_data(study: Study) -> IsoFlopData:
    """Every line that has budgets: its cells, the parabola of each budget, and the minima with intervals."""
    panels = [IsoFlopPanel(line.name, tuple(_curves(study, line))) for line in study.lines if line.budgets]
    return IsoFlopData(tuple(panels), study.settings.params_column)


def optima_data(study: Study) -> OptimaData:
    """N_opt and D_opt of every line: bracketed minima of approach 2, frontier and exponent of approach 3."""
    lines = {key: tuple(_optima_line(line, key) for line in study.lines) for key in ("N", "D")}
    return OptimaData(lines["N"], lines["D"], study.settings.params_column, study.convention)


def frontier_data(study: Study) -> FrontierData:
    """The cells of every line, and its loss frontier."""
    lines = []
    for line in study.lines:
        residual: Bounds = (None,) * len(line.cells)
        if line.law is not None:
            n, d = (np.array([getattr(cell, name) for cell in line.cells]) for name in ("params", "tokens"))
            compute = np.array([_compute(cell) for cell in line.cells])
            fitted = line.law.fit.loss(n, d, compute)
            residual = tuple(cell.loss - float(value) for cell, value in zip(line.cells, fitted, strict=True))
        lines.append(
            FrontierLine(
                line.order,
                line.name,
                tuple(_compute(cell) for cell in line.cells),
                tuple(cell.loss for cell in line.cells),
                residual,
                _band(line, "loss"),
            )
        )
    return FrontierData(tuple(lines), study.noise.sigma if study.noise else None, study.convention)


def difference_data(study: Study) -> DifferenceData:
    """Every line minus the reference at each common budget."""
    lines = [
        DifferenceLine(
            one.line.order,
            one.line.name,
            tuple(d.verdict.cost for d in one.by_budget),
            tuple(d.verdict.difference_nats for d in one.by_budget),
            tuple(d.verdict.interval[0] for d in one.by_budget),
            tuple(d.verdict.interval[1] for d in one.by_budget),
        )
        for one in study.comparisons
    ]
    sigma = study.noise.sigma if study.noise else None
    return DifferenceData(study.reference.name, tuple(lines), sigma, study.convention)


def serving_data(study: Study) -> ServingData:
    """Each line's own cheapest-to-train model at every target loss, in its own form at batch 1 on the first device."""
    device = study.settings.devices[0] if study.settings.devices else ""
    rows = [
        (comparison["target_loss"], row)
        for comparison in serving(study).comparisons
        for row in comparison["rows"]
        if row["choice"] == "cheapest" and row["device"] == device and row["batch"] == 1 and row["form"] != "merged"
    ]
    panels = []
    costs = [
        ("Arithmetic", "decode FLOPs per token", "decode_flops_per_token", 1.0),
        ("Weights", "bytes", "weight_bytes", 1.0),
        ("Keys and values", "cache bytes per token", "kv_bytes_per_token", 1.0),
    ]
    if rows and rows[0][1]["calibrated"]:
        costs.append((f"Time on {device}, batch 1", "decode step (µs)", "decode_seconds", 1e6))
    for title, unit, column, scale in costs:
        lines = []
        for line in study.lines:
            known = [(loss, row[column] * scale) for loss, row in rows if row["line"] == line.name and row[column]]
            if known:
                lines.append(ServingLine(line.order, line.name, *zip(*known, strict=True)))
        panels.append(ServingPanel(title, unit, tuple(lines)))
    return ServingData(tuple(panels) if rows else ())


def rates_data(study: Study) -> RatesData | None:
    """The shape and number of tokens at which most lines were tuned, run by run; None where none was."""
    groups = tunings(study)
    if not groups:
        return None
    lines = []
    for tuned in sorted(groups[0], key=lambda one: one.order):
        runs = [(rate.lr / tuned.best.lr, row) for rate in tuned.rates for row in rate.rows]
        multiples = tuple(multiple for multiple, _ in runs)
        losses, norms = (tuple(row[name] for _, row in runs) for name in ("loss", "largest_matrix_norm"))
        lines.append(RatesLine(tuned.order, tuned.line, multiples, losses, norms))
    first = groups[0][0]
    return RatesData(tuple(lines), f"{first.shape}, {format_number(first.tokens)} tokens")


def _curves(study: Study, line: Line) -> Iterable[IsoFlopCurve]:
    minima = {minimum.budget: minimum for minimum in (line.isoflop.minima if line.isoflop else ())}
    sigma = study.noise.sigma if study.noise else 0.0
    for budget, group in groupby([c for c in line.cells if c.budget is not None], key=lambda cell: cell.budget):
        cells = list(group)
        assert budget is not None
        x, y = _parabola(cells)
        minimum = minima.get(budget)
        good = minimum is not None and minimum.bracketed
        yield IsoFlopCurve(
            budget,
            tuple(cell.params for cell in cells),
            tuple(cell.loss for cell in cells),
            tuple(sigma / len(cell.rows) ** 0.5 for cell in cells),
            x,
            y,
            (minimum.params, minimum.loss) if minimum and good else None,
            minimum.params_interval if minimum and good else None,
        )


def _parabola(cells: list[Cell]) -> tuple[Numbers, Numbers]:
    """The parabola in log N through all runs of a budget, as approach 2 fits it; empty below three sizes."""
    x = np.log([cell.params for cell in cells for _ in cell.rows])
    y = np.array([loss for cell in cells for loss in cell.losses])
    if len(np.unique(x)) < 3:
        return (), ()
    grid = np.linspace(x.min(), x.max(), _CURVE)
    centre = x.mean()
    values = np.polyval(np.polyfit(x - centre, y, 2), grid - centre)
    return tuple(np.exp(grid).tolist()), tuple(values.tolist())


def _optima_line(line: Line, key: str) -> OptimaLine:
    minima: tuple[Minimum, ...] = line.isoflop.bracketed if line.isoflop else ()
    name = "params" if key == "N" else "tokens"
    bounds = [getattr(minimum, f"{name}_interval") or (None, None) for minimum in minima]
    intervals = line.law.exponent_intervals if line.law else {}
    return OptimaLine(
        line.order,
        line.name,
        tuple(minimum.budget for minimum in minima),
        tuple(getattr(minimum, name) for minimum in minima),
        tuple(low for low, _ in bounds),
        tuple(high for _, high in bounds),
        _band(line, key),
        line.law.fit.exponents.get(key) if line.law else None,
        intervals.get(key),
    )


def _band(line: Line, key: str) -> Band | None:
    """N, D or loss of the frontier over the line's own compute; None without a law."""
    optima = _optima(line)
    if not optima:
        return None
    values = {"N": [o.params for o in optima], "D": [o.tokens for o in optima], "loss": [o.loss for o in optima]}
    bounds = [o.intervals[key] for o in optima if key in o.intervals]
    compute = tuple(o.compute for o in optima)
    return Band(compute, tuple(values[key]), tuple(low for low, _ in bounds), tuple(high for _, high in bounds))


@lru_cache(maxsize=32)
def _optima(line: Line) -> list[Optimum]:
    """Optima along the line's own compute: three figures read them."""
    if line.frontier is None:
        return []
    spent = line.points.compute
    levels = np.geomspace(spent.min() / _BEYOND, spent.max() * _BEYOND, _LEVELS)
    return [line.frontier.at(float(level)) for level in levels]


def _compute(cell: Cell) -> float:
    return 6.0 * cell.params * cell.tokens if cell.flops is None else cell.flops
