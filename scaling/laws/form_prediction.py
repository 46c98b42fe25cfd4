"""Predictions of one fitted form: log loss, and compute-optimal N, D and loss, each with the variance that the noise of
the points leaves (the delta method about the optimum).

With J the Jacobian of log L̂ and σ the noise of one run, the parameters have covariance σ²·(JᵀWJ)⁻¹, W the weights that
the objective gives to the points. A parameter at its bound is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from scaling.laws.fitting import Fit, target_of
from scaling.laws.frontier import Frontier
from scaling.laws.objectives import objective_named
from scaling.laws.points import Array, Points
from scaling.laws.solver.objective_terms import System

_RIDGE = 1e-10  # of the Gram matrix with unit columns: a flat direction is wide, not infinite
_STEP = 0.1  # of a standard error along each principal axis of the covariance
_TINIEST = 1e-300
_LEAST_SIGMA = 1e-9  # of log loss: points without any noise


class Moments(NamedTuple):
    """Mean and variance of the log of something, two arrays of one shape."""

    mean: Array
    variance: Array


@dataclass(frozen=True, eq=False)
class FormPrediction:
    """A fit and the noise σ of one run in log loss."""

    fit: Fit
    sigma: float

    @cached_property
    def covariance(self) -> Array:
        """Of the solver's parameters [P, P]; zero for what is fixed or at a bound."""
        fit = self.fit
        root = np.sqrt(point_weights(fit))[:, None]
        jacobian = System(fit.layout, fit.points).jacobian(fit.vector) * root
        norms = np.sqrt((jacobian**2).sum(axis=0))
        inside = fit.layout.free & ~fit.layout.at_bound(fit.vector)
        free = np.flatnonzero(inside & (norms > 0.0))
        unit = jacobian[:, free] / norms[free]
        inverse = np.linalg.inv(unit.T @ unit + _RIDGE * np.eye(len(free)))
        covariance = np.zeros((len(norms), len(norms)))
        covariance[np.ix_(free, free)] = self.sigma**2 * inverse / np.outer(norms[free], norms[free])
        return covariance

    def log_loss(self, points: Points) -> Moments:
        """log L of the law at `points` [m]; their own losses are not read."""
        system = System(self.fit.layout, points)
        jacobian = system.jacobian(self.fit.vector)
        variance = np.einsum("np,pq,nq->n", jacobian, self.covariance, jacobian)
        return Moments(system.log_loss(self.fit.vector[None])[0], np.maximum(variance, 0.0))

    def log_optimum(self, frontier: Frontier, compute: float) -> Moments:
        """log of compute-optimal N, D and loss [3] at `compute`, along `frontier` (of this fit)."""
        values, axes = np.linalg.eigh(self.covariance)
        steps = (_STEP * np.sqrt(np.maximum(values, 0.0)) * axes).T
        layout, vector = self.fit.layout, self.fit.vector
        ends = np.clip(np.concatenate([vector[None], vector + steps, vector - steps]), layout.lower, layout.upper)
        minimum = np.log(np.maximum(frontier.minima(compute, ends), _TINIEST))
        slopes = (minimum[:, 1 : 1 + len(steps)] - minimum[:, 1 + len(steps) :]) / (2.0 * _STEP)
        return Moments(minimum[:, 0], (slopes**2).sum(axis=1))


def point_weights(fit: Fit) -> Array:
    """Weight [n] of every point in the least squares that agrees with the objective at the optimum, at most its own
    weight.
    """
    objective = objective_named(fit.objective, fit.delta)
    target = target_of(objective, fit.points.loss)
    predicted = np.log(fit.points.loss) - fit.residuals
    residual = (predicted if objective.in_log else np.exp(predicted)) - target
    majoriser = objective.curvature(residual[None]).majoriser[0]
    weights: Array = fit.points.weights * majoriser / majoriser.max()
    return weights


def noise_of_run(fit: Fit, groups: Array | None = None, seed_noise: float | None = None) -> float:
    """Standard deviation of log loss of one run about the law: seed and scatter.

    Args:
        fit: the law.
        groups: a label [n] for each point whose group has an effect of its own (the budget): group means of the
            residuals are taken out, for an extrapolation is calibrated on them apart.
        seed_noise: standard deviation of one seed in log loss, which is the least there is.
    """
    weights, residuals, count = point_weights(fit), fit.residuals, len(fit.residuals)
    lost = float(fit.layout.free_count)
    if groups is not None:
        codes = np.unique(groups, return_inverse=True)[1]
        levels = int(codes.max()) + 1
        sums = np.bincount(codes, weights * residuals) / np.maximum(np.bincount(codes, weights), 1e-300)
        residuals = residuals - sums[codes]
        lost = levels + lost * (1.0 - levels / count)
    own = float(np.sqrt((weights * residuals**2).sum() / max(1.0, count - lost)))
    return max(own, seed_noise or 0.0, _LEAST_SIGMA)
