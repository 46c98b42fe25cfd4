"""Draws of a law over thousands of points, refitted in the linear model that touches the law at its optimum.

With so many points a draw moves the parameters by so little that log L̂ is linear in them, and a refit is one Newton
step of a regression whose columns all draws share: a few matrix products. That it is linear enough is not assumed: some
draws are refitted exactly as well, and where any parameter differs by more than a tenth of its spread over draws, or a
draw leaves the bounds, all are refitted exactly.
"""

from __future__ import annotations

import numpy as np

from scaling.laws.fitting import Fit
from scaling.laws.objectives import Objective
from scaling.laws.points import Array
from scaling.laws.solver.newton import descend
from scaling.laws.solver.objective_terms import System

FEWEST_POINTS = 4_000  # below it exact refits of 1,000 draws take under two seconds
_CHECKED = 16  # draws refitted exactly
_CHUNK = 32  # draws at once: their temporaries stay in cache
_LINEAR = 0.1  # largest difference from them, in standard deviations of the draws


def linear_refit(fit: Fit, system: System, objective: Objective, target: Array, weight: Array) -> Array | None:
    """The internal vectors of all draws [R, P], None where the linear model will not do.

    Args:
        target: log losses, [points] or [R, points]. weight: likewise.
    """
    if len(fit.points) < FEWEST_POINTS or not objective.in_log:
        return None
    layout, at = fit.layout, fit.vector
    if layout.at_bound(at).any():
        return None
    jacobian = system.jacobian(at)[:, layout.free]
    moved = _moved(jacobian, system.log_loss(at[None])[0], objective, target, weight)
    vectors = np.repeat(at[None], len(moved), axis=0)
    vectors[:, layout.free] += moved
    inside = (vectors > layout.lower) & (vectors < layout.upper)
    if not inside[:, layout.free].all() or not _agrees(vectors, system, objective, target, weight):
        return None
    return vectors


def _moved(jacobian: Array, log_loss: Array, objective: Objective, target: Array, weight: Array) -> Array:
    """How far each draw moves the free parameters [R, p]: one Newton step of the linear model, exact for squares. For
    Huber's ρ few residuals cross the kink in it, because a draw moves the law by far less than a residual.
    """
    count = max(len(table) for table in (target, weight) if table.ndim == 2)
    length = np.sqrt((jacobian**2).sum(axis=0))
    columns = jacobian / length
    products = (columns[:, :, None] * columns[:, None, :]).reshape(len(columns), -1)
    moved = np.empty((count, len(length)))
    for begin in range(0, count, _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        losses, weights = (table[rows] if table.ndim == 2 else table[None] for table in (target, weight))
        _, slope, second, _ = objective.curvature(log_loss - losses)
        gradient = np.broadcast_to((slope * weights) @ columns, moved[rows].shape)
        matrix = ((second * weights) @ products).reshape(-1, len(length), len(length))
        moved[rows] = np.linalg.solve(matrix, -gradient[:, :, None])[:, :, 0] / length
    return moved


def _agrees(vectors: Array, system: System, objective: Objective, target: Array, weight: Array) -> bool:
    """Whether some draws, evenly taken, end where exact refits end."""
    some = np.unique(np.linspace(0, len(vectors) - 1, _CHECKED).astype(int))
    ends = descend(
        system,
        vectors[some],
        objective,
        target[some] if target.ndim == 2 else target,
        weight[some] if weight.ndim == 2 else weight,
    )
    spread = vectors.std(axis=0)
    return bool(ends.converged.all() and (np.abs(ends.vector - vectors[some]) <= _LINEAR * spread + 1e-12).all())
