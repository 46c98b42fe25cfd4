"""Power laws through a table of optima: one row for each compute budget, the best model somebody found there.

    N_opt = k_N · C^a,   D_opt = k_D · C^b,   L = E + K·C^-γ

by least squares in log (the loss by form `power`, E = 0 below five budgets). Intervals are Student's t on the scatter
about the lines: how well each optimum was found is not in the table. Hoffmann et al. 2203.15556, table 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.errors import FitError
from scaling.laws.draws import Interval
from scaling.laws.fitting import Fit, fit
from scaling.laws.points import Array, Points
from scaling.laws.solver.identifiability import MIN_BUDGETS, SAME_COMPUTE, levels


@dataclass(frozen=True, eq=False)
class OptimaLaws:
    """Power laws through given optima.

    Attributes:
        points: the optima, one for each budget.
        exponents: of N and D in C; `exponent_intervals` are 95 %.
        coefficients: N_opt = coefficients["N"] · C^exponents["N"], the same for D.
        loss: the law of the loss, None where it is not determined (`reason` then says why).
    """

    points: Points
    exponents: Mapping[str, float]
    exponent_intervals: Mapping[str, Interval]
    coefficients: Mapping[str, float]
    loss: Fit | None
    reason: str | None = None

    def at(self, compute: float) -> dict[str, float]:
        """N and D at `compute` FLOPs, and the loss where it has a law.

        Raises:
            FitError: `compute` is not a positive number.
        """
        if not (np.isfinite(compute) and compute > 0):
            raise FitError("compute is a positive number of FLOPs", got=compute)
        values = {name: self.coefficients[name] * compute**slope for name, slope in self.exponents.items()}
        if self.loss is not None:
            values["loss"] = float(self.loss.loss(values["N"], values["D"], compute))
        return values


def are_optima(points: Points) -> bool:
    """Whether a table holds optima: one row for each compute level, along which N and D grow and the loss falls."""
    order = np.argsort(points.compute)
    if len(points) < MIN_BUDGETS or levels(points.compute, SAME_COMPUTE) < len(points):
        return False
    grows = (np.diff(column[order]).min() > 0 for column in (points.params, points.tokens, -points.loss))
    return all(grows)


def optima_laws(points: Points) -> OptimaLaws:
    """Power laws through the rows of `points`, each the optimum of its compute (`budget` where given, else its FLOPs).

    Raises:
        FitError: fewer than three budgets, or two rows for one of them.
    """
    compute = points.budget if points.budget is not None else points.compute
    count = levels(compute, SAME_COMPUTE)
    if count < MIN_BUDGETS or count < len(points):
        raise FitError(
            "power laws through optima take one row for each compute budget",
            got=f"{len(points)} rows of {count} budgets",
            allowed=f"at least {MIN_BUDGETS} budgets, one row each",
        )
    exponents, intervals, coefficients = {}, {}, {}
    for name, column in (("N", points.params), ("D", points.tokens)):
        exponents[name], intervals[name], coefficients[name] = _line(np.log(compute), np.log(column))
    law, reason = None, None
    try:
        law = fit(points, "power")
    except FitError as error:
        reason = error.what
    return OptimaLaws(points, exponents, intervals, coefficients, law, reason)


def _line(x: Array, y: Array) -> tuple[float, Interval, float]:
    """Slope, its 95 % interval and exp(intercept) of y on x."""
    from scipy.special import stdtrit

    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    offset = float(y.mean() - slope * x.mean())
    freedom = len(x) - 2
    scatter = float(((y - offset - slope * x) ** 2).sum()) / freedom
    reach = float(stdtrit(freedom, 0.975)) * float(np.sqrt(scatter / (centred @ centred)))
    return slope, (slope - reach, slope + reach), float(np.exp(offset))
