"""Profile-likelihood intervals under `log_mse`: a check of the bootstrap.

With normal noise in log loss the deviance of a value v of one parameter, all others re-optimised, is
n·log(S(v)/S_min), S the sum of squared residuals. The 95 % interval is where it stays below F(1, n − p) scaled, which
for many points is the χ² bound 3.84. Unlike a bootstrap it may be open: a parameter that can run away without the
residuals growing has no upper end, which is reported as infinity.

Only parameters have a profile here. The exponents of the frontier and its optima are functions of several; holding one
of them is a constraint this solver does not have, and their intervals are those of the bootstrap.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np

from scaling.errors import FitError
from scaling.laws.draws import Interval
from scaling.laws.fitting import Fit, target_of
from scaling.laws.objectives import objective_named
from scaling.laws.points import Array
from scaling.laws.solver.newton import descend
from scaling.laws.solver.objective_terms import System
from scaling.laws.solver.parameters import Layout

_NODES = 81
_REACH = 8.0  # standard errors, each way, of the first search
_WIDENINGS = 3  # the search is made eight times wider, this often


def profile_intervals(fit: Fit, level: float = 0.95) -> dict[str, Interval]:
    """The interval of every parameter; empty where there is no profile: under another objective, for a degenerate fit,
    or where the law reports other numbers than it fits (`kaplan`).
    """
    if fit.objective != "log_mse" or fit.status == "degenerate" or fit.form.rename:
        return {}
    free = (name for name, fitted in zip(fit.layout.names, fit.layout.free, strict=True) if fitted)
    return {name: profile_interval(fit, name, level) for name in free}


def profile_interval(fit: Fit, name: str, level: float = 0.95) -> Interval:
    """The interval of parameter `name` of a `log_mse` fit; an open end is infinite (or the bound of the parameter).

    Raises:
        FitError: the fit was made under another objective, or has no such parameter.
    """
    if fit.objective != "log_mse":
        raise FitError("profile intervals rest on the likelihood of log_mse", got=fit.objective, allowed="log_mse")
    if fit.form.rename or name not in fit.layout.names:
        raise FitError("no such parameter to profile", got=name, allowed=", ".join(fit.layout.names))
    # Centred at zero, a log coefficient is the log of the reported one, so that holding it holds what is reported.
    layout = replace(
        fit.layout, centres=(0.0,) * len(fit.layout.centres), lower=_open(fit.layout, -1), upper=_open(fit.layout, 1)
    )
    best = layout.vector(fit.parameters)
    index = layout.index(name)
    freedom = len(fit.points) - len(best)
    if freedom < 1:
        return (-float("inf"), float("inf"))
    bound = _t_quantile(0.5 + level / 2.0, freedom) ** 2 / freedom
    system = System(layout, fit.points)
    error = _standard_error(system, best, fit.sigma_log, index)
    ends = []
    for side in (-1.0, 1.0):
        ends.append(_crossing(system, best, index, side, error, fit.objective_value * (1.0 + bound), layout))
    low, high = sorted(ends)
    return _reported(layout, best, index, low), _reported(layout, best, index, high)


def _reported(layout: Layout, best: Array, index: int, value: float) -> float:
    """A value of the solver's parameter `index` in the unit of the report; infinity stays infinite."""
    if not np.isfinite(value):
        return value if value > 0 or not layout.in_log(layout.names[index]) else 0.0
    vector = best.copy()
    vector[index] = value
    return float(layout.natural(vector[None])[layout.names[index]][0])


def _crossing(
    system: System, best: Array, index: int, side: float, error: float, limit: float, layout: Layout
) -> float:
    """Where the profiled sum of squares first exceeds `limit` on one side of the optimum."""
    edge = layout.lower[index] if side < 0 else layout.upper[index]
    reach = _REACH * error
    for _ in range(_WIDENINGS):
        end = max(best[index] - reach, edge) if side < 0 else min(best[index] + reach, edge)
        values = np.linspace(best[index], end, _NODES)
        squares = _profile(system, best, index, values)
        above = np.flatnonzero(squares > limit)
        if len(above):
            k = int(above[0])
            share = (limit - squares[k - 1]) / (squares[k] - squares[k - 1]) if k else 0.0
            return float(values[k - 1] + share * (values[k] - values[k - 1])) if k else float(values[0])
        if end == edge:
            return float(edge)
        reach *= 8.0
    return side * float("inf")


def _profile(system: System, best: Array, index: int, values: Array) -> Array:
    """Sum of squared log residuals with parameter `index` held at each of `values` [k]."""
    chosen = objective_named("log_mse")
    start = np.repeat(best[None], len(values), axis=0)
    start[:, index] = values
    lower, upper = (np.repeat(bound[None], len(values), axis=0) for bound in (system.layout.lower, system.layout.upper))
    lower[:, index] = upper[:, index] = values
    target = target_of(chosen, system.points.loss)
    squares = descend(system, start, chosen, target, system.points.weights, lower=lower, upper=upper).value
    return np.minimum.accumulate(squares[::-1])[::-1]


def _standard_error(system: System, best: Array, sigma: float, index: int) -> float:
    jacobian = system.jacobian(best)
    covariance = np.linalg.pinv(jacobian.T @ jacobian, hermitian=True)
    return float(max(sigma * np.sqrt(max(covariance[index, index], 0.0)), 1e-6 * (1.0 + abs(best[index]))))


def _open(layout: Layout, side: int) -> Array:
    """Bounds for log coefficients centred at zero: as wide as the numbers allow."""
    bounds = (layout.lower if side < 0 else layout.upper).copy()
    for j, name in enumerate(layout.names):
        if layout.in_log(name) and not any(
            term.stretch and name.startswith(term.stretch.parameter) for term in layout.form.terms
        ):
            bounds[j] = side * 500.0
    return bounds


def _t_quantile(probability: float, freedom: int) -> float:
    """Student's t quantile by the Cornish–Fisher expansion (Abramowitz and Stegun 26.7.5), to 1 % from 3 degrees of
    freedom on.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4.0,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96.0,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160.0,
    )
    return float(z + sum(term / freedom ** (k + 1) for k, term in enumerate(terms)))
