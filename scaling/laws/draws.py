"""Bootstrap: the data are drawn again and refitted. Every draw is a full fit of the exact objective, all of them in one
batch.

Two kinds of draw, for two kinds of data:

- `cases`: points drawn with replacement (as multinomial weights). For a table of observations, whose points are a
  sample. This is what the replication of Hoffmann et al. did.
- `residuals`: the design stays, the noise is drawn again: log L* = log L̂ + ε*. For a designed grid. The ε*
  are the fit's own residuals, centred, inflated by sqrt(n/(n − p)) for the parameters that were fitted to them, and
  scaled up to the seed noise where that is larger (a law that passes too close to its points has fitted their noise).

Intervals are percentiles, for `residuals` made as wide on one side as on the other, for `cases` wider by what the
parameters took from the data (`Draws.around`).

Points that share a trunk are one run read at several horizons: they are drawn together, under `residuals` with one
sign for the whole trunk. A draw that does not converge, or ends at a bound, is counted; above 5 % the interval is
unreliable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from scaling.checks import MAX_LOST_DRAWS
from scaling.errors import FitError
from scaling.laws.fitting import Fit, exponents_of, target_of
from scaling.laws.linear_refit import linear_refit
from scaling.laws.objectives import objective_named
from scaling.laws.points import Array, Indices, Texts
from scaling.laws.solver.newton import descend
from scaling.laws.solver.objective_terms import System

Kind = Literal["cases", "residuals"]
Interval = tuple[float, float]

_HUGE = 1e300  # a coefficient of a degenerate draw may be infinite; a quantile interpolates
_DRAW_TOLERANCE = 1e-10  # of the objective: far below the spread of draws, and one evaluation in ten cheaper
_MANY_CLUSTERS = 2_000  # above it, clusters are drawn one by one: a multinomial takes six times as long at 20,000
_STUDENT = (1.96**2 + 1.0) / 4.0  # t/z = 1 + (z² + 1)/4ν + … (Fisher's expansion)
_LEAST_FREEDOM = 3  # below it the noise level of a draw has no variance


@dataclass(frozen=True, eq=False)
class Draws:
    """Refitted parameters: `vectors` [draws, P] as the solver holds them; failed draws are left out, `numbers` are
    those of the others.
    """

    fit: Fit
    kind: Kind
    clustered: bool
    vectors: Array
    drawn: int
    failed: int
    at_bound: int
    numbers: Indices

    @property
    def unreliable(self) -> bool:
        """More than 5 % of the draws failed or ended at a bound."""
        return self.failed + self.at_bound > MAX_LOST_DRAWS.value * self.drawn

    @cached_property
    def parameters(self) -> dict[str, Array]:
        """Reported parameters, each [draws]."""
        return self.fit.layout.natural(self.vectors)

    @cached_property
    def exponents(self) -> dict[str, Array]:
        """Exponents of N and D in C, each [draws]."""
        return exponents_of(self.fit.layout, self.vectors)

    def interval(self, name: str, level: float = 0.95) -> Interval:
        """Interval of a parameter (`A`, `alpha`, …) or exponent (`N`, `D`).

        Raises:
            KeyError: there is no such parameter.
        """
        if name in self.parameters:
            return self.around(self.parameters[name], self.fit.parameters[name], level, self.fit.layout.in_log(name))
        return self.around(self.exponents[name], self.fit.exponents[name], level)

    def intervals(self, level: float = 0.95) -> dict[str, Interval]:
        """Interval of every reported parameter."""
        return {name: self.interval(name, level) for name in self.parameters}

    def exponent_intervals(self, level: float = 0.95) -> dict[str, Interval]:
        """Interval of every exponent."""
        return {name: self.interval(name, level) for name in self.exponents}

    def around(self, values: Array, estimate: float, level: float = 0.95, in_log: bool = False) -> Interval:
        """Interval of any quantity from its draws: widened percentiles for `cases`; for `residuals` the farther of the
        two percentiles on both sides of the estimate (of its log, if `in_log`).

        A skewed estimator misses the truth mostly on the side to which its draws reach least, so that percentiles of a
        small design cover less than 95 %: E of 15 or 20 points .90, by this rule .96
        (benchmarks/laws_coverage.py).
        """
        low, high = percentile_interval(values, level)
        if self.kind == "cases":
            return self._widened(values, low, high, in_log)
        if in_log and low > 0:
            reach = max(high / estimate, estimate / low)
            return estimate / reach, estimate * reach
        reach = max(high - estimate, estimate - low)
        return max(estimate - reach, min(0.0, low)), estimate + reach

    def _widened(self, values: Array, low: float, high: float, in_log: bool) -> Interval:
        """Percentiles of case draws, wider by what n draws of n points lack for the p parameters fitted to them: by
        √(n/(n − p)) and the quantile of Student's t over the normal one, to first order in 1/(n − p) (35 points: 12 %,
        240: 2 %). Without, 35 points cover .91 (benchmarks/laws_delta.py).
        """
        points = int((self.fit.points.weights > 0).sum())
        freedom = points - self.fit.layout.free_count
        if freedom < 1 or not len(values):
            return low, high
        wider = math.sqrt(points / freedom) * (1.0 + _STUDENT / freedom)
        middle = float(np.median(np.clip(values, -_HUGE, _HUGE)))
        if in_log and low > 0:
            return middle * (low / middle) ** wider, middle * (high / middle) ** wider
        return max(middle - wider * (middle - low), min(0.0, low)), middle + wider * (high - middle)

    @cached_property
    def correlations(self) -> dict[tuple[str, str], float]:
        """Rank correlation over draws of every pair of parameters; empty where no two draws converged."""
        if len(self.vectors) < 2:
            return {}
        names = list(self.parameters)
        ranks = np.array([np.argsort(np.argsort(self.parameters[name])) for name in names], dtype=float)
        flat = {name for name in names if np.ptp(self.parameters[name]) == 0.0}
        table = np.corrcoef(ranks)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if not {a, b} & flat]
        return {(a, b): float(table[names.index(a), names.index(b)]) for a, b in pairs}


def percentile_interval(values: Array, level: float = 0.95) -> Interval:
    """Equal-tailed interval of draws; NaN where there are none."""
    if not len(values):
        return (float("nan"), float("nan"))
    within = np.clip(values, -_HUGE, _HUGE)
    low, high = np.quantile(within, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def bootstrap(
    fit: Fit,
    *,
    draws: int = 1000,
    seed: int = 0,
    kind: Kind = "cases",
    noise: float | None = None,
    clusters: Texts | None = None,
) -> Draws:
    """Refits `draws` times.

    Args:
        fit: a fit, whose optimum every draw starts from.
        draws: how many.
        seed: of the random draws; two fits of equally many points drawn with one seed are paired.
        kind: `cases` for a table, `residuals` for a designed grid.
        noise: standard deviation of one seed in log loss; residual draws are never quieter.
        clusters: label [points] of points drawn together; None takes `fit.points.trunk`, or each point alone.

    Raises:
        FitError: `draws` is below 1.
    """
    if draws < 1:
        raise FitError("a bootstrap takes draws", got=draws, allowed="at least 1; 1000 for an interval")
    labels = clusters if clusters is not None else fit.points.trunk
    rng = np.random.default_rng(seed)
    group = np.arange(len(fit.points)) if labels is None else np.unique(labels, return_inverse=True)[1].astype(np.intp)
    loss, weight = (
        draw_cases(fit, rng, draws, group) if kind == "cases" else draw_residuals(fit, rng, draws, group, noise)
    )
    return refit(fit, loss, weight, kind=kind, clustered=labels is not None)


def refit(fit: Fit, loss: Array, weight: Array, *, kind: Kind, clustered: bool = False) -> Draws:
    """The fit again on other losses and weights, [draws, points] each (or [points] where all draws share them)."""
    chosen = objective_named(fit.objective, fit.delta)
    count = max(len(table) for table in (loss, weight) if table.ndim == 2)
    start = np.repeat(fit.vector[None], count, axis=0)
    system = System(fit.layout, fit.points)
    target = target_of(chosen, loss)
    linear = linear_refit(fit, system, chosen, target, weight)
    if linear is not None:
        return Draws(fit, kind, clustered, linear, count, 0, 0, np.arange(count))
    ends = descend(system, start, chosen, target, weight, tolerance=_DRAW_TOLERANCE)
    good = ends.converged & np.isfinite(ends.vector).all(axis=1)
    vectors = ends.vector[good]
    failed = int(count - good.sum())
    return Draws(
        fit,
        kind,
        clustered,
        vectors,
        count,
        failed,
        int(fit.layout.at_bound(vectors).any(axis=1).sum()),
        np.flatnonzero(good),
    )


def draw_cases(fit: Fit, rng: np.random.Generator, draws: int, group: Indices) -> tuple[Array, Array]:
    """Losses [points] and weights [draws, points]: clusters drawn with replacement."""
    count = int(group.max()) + 1
    if count <= _MANY_CLUSTERS:
        times = rng.multinomial(count, np.full(count, 1.0 / count), size=draws).astype(np.float64)
    else:
        times = np.empty((draws, count))
        for row in times:
            row[:] = np.bincount(rng.integers(count, size=count), minlength=count)
    return fit.points.loss, times[:, group] * fit.points.weights


def draw_residuals(
    fit: Fit,
    rng: np.random.Generator,
    draws: int,
    group: Indices,
    noise: float | None,
    order: Indices | None = None,
    smooth: Array | None = None,
) -> tuple[Array, Array]:
    """Losses [draws, points] and weights [points]: new noise on the fitted law.

    Residuals are drawn smoothly (a robust fit passes exactly through as many points as it has parameters, and those
    zeros drawn again would make the intervals too narrow), and each draw has a noise level of its own, as
    uncertain as n − p residuals leave it, so that intervals widen as Student's t does. Two lines are paired by
    drawing both with one seed: with `order` point i takes the residual drawn for place order[i], and the smoothing
    noise is `smooth` [draws, points], standard normal, instead of new.
    """
    residuals = fit.residuals - fit.residuals.mean()
    rms = float(np.sqrt((residuals**2).mean()))
    sigma = max(fit.sigma_log, noise or 0.0)
    scaled = residuals * (sigma / rms) if rms > 0 else residuals
    points, count = len(residuals), int(group.max()) + 1
    if count < points:
        error = scaled * rng.choice([-1.0, 1.0], size=(draws, count))[:, group]
    else:
        kernel = points**-0.2  # the rate of Silverman's rule, in units of sigma
        places = rng.integers(points, size=(draws, points))
        if order is not None:
            places = np.argsort(order)[places][:, order]
        error = np.sqrt(1.0 - kernel**2) * scaled[places]
        error += kernel * sigma * (rng.normal(size=(draws, points)) if smooth is None else smooth)
    freedom = max(count - fit.layout.free_count, _LEAST_FREEDOM)
    error *= np.sqrt(freedom / rng.chisquare(freedom, size=(draws, 1)))
    return np.exp(np.log(fit.points.loss) - fit.residuals + error), fit.points.weights
