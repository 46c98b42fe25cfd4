"""The numbers of every figure, apart from its ink."""

from __future__ import annotations

from dataclasses import dataclass

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
    loss_sd: Numbers  # seed noise of each cell's mean, 0 where unknown
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
