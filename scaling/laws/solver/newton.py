"""Second-order descent on the exact objective, for many draws at once.

The step solves (H + λM)·step = −g: H is the semi-smooth Hessian (the Huber kink contributes the quadratic region
only), M the Gauss–Newton matrix of the least-squares problem that majorises the objective, λ one damping factor per
draw. H alone converges in a few steps near the optimum; M alone is iteratively reweighted least squares, which always
descends. Parameters at a bound with the gradient pointing outward are held. Draws that have converged leave the batch.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaling.laws.objectives import Objective
from scaling.laws.points import Array, Indices
from scaling.laws.solver.objective_terms import Local, System

MAX_STEPS = 400
_CHUNK_VALUES = 20_000  # draws × points whose temporaries stay in a level-2 cache of 1 to 2 MB
_CHUNK_DRAWS = 10  # at least: 4,000 points 10 % faster than by five draws, on a cache of 2 MB
GAIN_TOLERANCE = 1e-14  # predicted decrease of the last step, relative to the objective
_STEP_TOLERANCE = 1e-11
_ROUNDING = 2e-15  # of a summed objective, relative: a good step at the optimum may seem to ascend by it
_EXACT = 1e-30  # objective per point below which the law passes through every point to rounding
_MAX_DAMPING, _MODERATE_DAMPING = 1e9, 10.0
_AT_BOUND = 1e-12
_FIRST_DAMPING = 1.0
_SHORTEN, _SHORTEST = 0.25, 0.02  # of a step that does not descend
# After a full step that descends, and after trouble; the pair with the fewest evaluations of 80 tried.
_EASE, _STIFFEN = 0.2, 8.0

Flags = npt.NDArray[np.bool_]


class Descent(NamedTuple):
    """Where each draw ended: internal vectors [R, P], summed objective [R], whether it is a stationary point [R]."""

    vector: Array
    value: Array
    converged: Flags


def descend(
    system: System,
    start: Array,
    objective: Objective,
    target: Array,
    weight: Array,
    *,
    lower: Array | None = None,
    upper: Array | None = None,
    tolerance: float = GAIN_TOLERANCE,
    steps: int = MAX_STEPS,
) -> Descent:
    """Minimises the objective from `start` [R, P]; `target` and `weight` are [points] or [R, points].

    `target` holds log losses for the objectives in log, losses for the others. `lower` and `upper` bound the
    parameters, [P] or [R, P] (None: as laid out); equal bounds hold a parameter, which is how profiles are taken. A
    draw stops when its next step would gain less than `tolerance` of the objective (that step is still taken, and not
    evaluated), or after `steps`.
    """
    low, high = (
        np.array(np.broadcast_to(own if given is None else given, start.shape))
        for own, given in ((system.layout.lower, lower), (system.layout.upper, upper))
    )
    vector = np.clip(start, low, high)
    result = Descent(vector.copy(), np.full(len(vector), np.inf), np.zeros(len(vector), dtype=np.bool_))
    alive = np.arange(len(vector))
    damping, share = np.full(len(vector), _FIRST_DAMPING), np.ones(len(vector))
    unit = 1.0 if objective.in_log else system.layout.loss_scale**2
    exact = np.broadcast_to(_EXACT * unit * weight.sum(axis=-1), len(vector))
    here = _local(system, vector, objective, target, weight, damping, alive)
    for _ in range(steps):
        held = _held(vector, here.gradient, low, high)
        step, gain = _step(here, held)
        small = (np.abs(step) <= _STEP_TOLERANCE * (1.0 + np.abs(vector))).all(axis=1)
        done = (((gain >= 0) & (gain <= tolerance * here.value)) | small) & (damping <= 0.1)
        done |= here.value <= exact[alive]
        # Where a residual lies on the Huber kink, H is wrong on one side of it and steps stop descending only here.
        invisible = (gain >= 0) & (gain <= _ROUNDING * here.value) & (damping <= _MODERATE_DAMPING)
        stop = done | invisible | (damping > _MAX_DAMPING)
        if stop.any():
            last = np.where(done[:, None], np.clip(vector + step, low, high), vector)
            result.vector[alive[stop]], result.value[alive[stop]] = last[stop], here.value[stop]
            result.converged[alive[stop]] = done[stop] | _stationary(here, held)[stop]
            if stop.all():
                return result
            go = ~stop
            alive, vector, step, low, high = alive[go], vector[go], step[go], low[go], high[go]
            damping, gain, share = damping[go], gain[go], share[go]
            here = Local(*(x[go] for x in here))
        trial = _inside(vector, step * share[:, None], low, high)
        next_damping = damping * np.where(share == 1.0, _EASE, _STIFFEN)
        there = _local(system, trial, objective, target, weight, next_damping, alive)
        better = (there.value <= here.value * (1.0 + _ROUNDING)) & (gain > 0)
        if better.all():
            vector, here, damping, share = trial, there, next_damping, np.ones(len(alive))
            continue
        vector = np.where(better[:, None], trial, vector)
        # A step that does not descend is tried shorter; where that does not help, or the matrix was indefinite,
        # damped anew.
        stuck = ~better & ((gain <= 0) | (share <= _SHORTEST))
        damping = np.where(better, next_damping, np.where(stuck, damping * _STIFFEN, damping))
        share = np.where(better | stuck, 1.0, share * _SHORTEN)
        for new, old in zip(there, here, strict=True):
            new[~better] = old[~better]
        if stuck.any():
            again = _local(system, vector[stuck], objective, target, weight, damping[stuck], alive[stuck])
            for new, old in zip(there, again, strict=True):
                new[stuck] = old
        here = there
    result.vector[alive], result.value[alive] = vector, here.value
    return result


def _held(vector: Array, gradient: Array, low: Array, high: Array) -> Flags:
    """Parameters at a bound (or within rounding of it) whose gradient points outward."""
    margin = _AT_BOUND * (1.0 + np.abs(vector))
    held: Flags = ((vector <= low + margin) & (gradient > 0)) | ((vector >= high - margin) & (gradient < 0))
    return held


def _inside(vector: Array, step: Array, low: Array, high: Array) -> Array:
    """The step, cut where its first parameter meets a bound: cutting that parameter alone would not descend."""
    trial: Array = vector + step
    if ((trial >= low) & (trial <= high)).all():
        return trial
    room = np.where(step < 0, vector - low, high - vector)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = np.where(np.abs(step) > room, room / np.abs(step), 1.0)
    # A parameter on its bound would cut every step to nothing: it is left to the clip.
    share = np.where(room > 0, share, 1.0).min(axis=1, keepdims=True)
    inside: Array = np.clip(vector + share * step, low, high)
    return inside


def _local(
    system: System, vector: Array, objective: Objective, target: Array, weight: Array, damping: Array, rows: Indices
) -> Local:
    """`System.local` for the draws `rows`, in pieces that stay in cache."""
    chunk = max(_CHUNK_DRAWS, _CHUNK_VALUES // len(system.points))
    pieces = []
    for i in range(0, len(rows), chunk):
        some = slice(i, i + chunk)
        own = rows[some]
        pieces.append(
            system.local(
                vector[some],
                objective,
                target if target.ndim == 1 else target[own],
                weight if weight.ndim == 1 else weight[own],
                damping[some],
            )
        )
    if len(pieces) == 1:
        return pieces[0]
    return Local(*(np.concatenate([piece[k] for piece in pieces]) for k in range(3)))


def _step(here: Local, held: Flags) -> tuple[Array, Array]:
    """The damped Newton step and the decrease it predicts (negative where the matrix is indefinite along it)."""
    gradient, matrix = here.gradient, here.hessian.copy()
    if held.any():
        gradient = np.where(held, 0.0, gradient)
        matrix[held[:, :, None] | held[:, None, :]] = 0.0
    # The relative ridge keeps a flat direction solvable; a held or dead parameter gets a one.
    diagonal = np.einsum("rii->ri", matrix)
    diagonal += 1e-14 * np.abs(diagonal)
    diagonal[diagonal == 0.0] = 1.0
    step: Array = np.full_like(gradient, np.nan)
    with contextlib.suppress(np.linalg.LinAlgError):
        step[:] = np.linalg.solve(matrix, -gradient[:, :, None])[:, :, 0]
    singular = ~np.isfinite(step).all(axis=1)
    if singular.any():
        inverse = np.linalg.pinv(matrix[singular], rcond=1e-13, hermitian=True)
        step[singular] = -(inverse @ gradient[singular, :, None])[:, :, 0]
    gain: Array = -0.5 * (gradient * step).sum(axis=1)
    return step, gain


def _stationary(here: Local, held: Flags) -> Flags:
    """Whether the projected gradient is zero to rounding, measured against its terms."""
    gradient = np.where(held, 0.0, here.gradient)
    scale = np.sqrt(np.abs(np.einsum("rii->ri", here.hessian)) * np.maximum(here.value, 1e-300)[:, None])
    flat: Flags = (np.abs(gradient) <= 1e-5 * scale + 1e-12).all(axis=1)
    return flat
