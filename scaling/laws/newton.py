"""Second-order descent on the exact objective, for many draws at once.

The step solves (H + λM)·step = −g: H is the semi-smooth Hessian (the Huber kink contributes the quadratic region
only), M the
Gauss–Newton matrix of the least-squares problem that majorises the objective, λ one damping factor per draw. H alone
converges in a
few steps near the optimum; M alone is iteratively reweighted least squares, which always descends. Parameters at a
bound with the
gradient pointing outward are held. Draws that have converged leave the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaling.laws.objectives import Objective
from scaling.laws.points import Array
from scaling.laws.system import Local, System

MAX_STEPS = 200
_CHUNK_VALUES = 20_000  # draws × points whose temporaries stay in a level-2 cache of 1 to 2 MB
_GAIN_TOLERANCE = 1e-14  # predicted decrease, relative to the objective
_STEP_TOLERANCE = 1e-11
_EXACT = 1e-30  # objective per point below which the law passes through every point to rounding
_MAX_DAMPING = 1e9

Flags = npt.NDArray[np.bool_]


class Descent(NamedTuple):
    """Where each draw ended: internal vectors [R, P], summed objective [R], whether a stationary point was reached
    [R].
    """

    vector: Array
    value: Array
    converged: Flags


def descend(system: System, start: Array, objective: Objective, target: Array, weight: Array) -> Descent:
    """Minimises the objective from `start` [R, P]; `target` and `weight` are [points] or [R, points].

    `target` holds log losses for the objectives in log, losses for the others.
    """
    points = len(system.points)
    chunk = max(1, _CHUNK_VALUES // points)
    parts = [
        _descend_chunk(system, start[i : i + chunk], objective, _rows(target, i, chunk), _rows(weight, i, chunk))
        for i in range(0, len(start), chunk)
    ]
    return Descent(*(np.concatenate([getattr(part, name) for part in parts]) for name in Descent._fields))


def _rows(table: Array, start: int, count: int) -> Array:
    return table if table.ndim == 1 else table[start : start + count]


def _pick(table: Array, rows: Flags) -> Array:
    return table if table.ndim == 1 else table[rows]


def _descend_chunk(system: System, start: Array, objective: Objective, target: Array, weight: Array) -> Descent:
    lower, upper = system.layout.lower, system.layout.upper
    vector = np.clip(start, lower, upper)
    result = Descent(vector.copy(), np.full(len(vector), np.inf), np.zeros(len(vector), dtype=np.bool_))
    alive = np.arange(len(vector))
    damping = np.full(len(vector), 1e-2)
    exact = _EXACT * (weight.sum(axis=-1) if weight.ndim > 1 else np.full(len(vector), weight.sum()))
    here = system.local(vector, objective, target, weight, damping)
    for _ in range(MAX_STEPS):
        held = ((vector <= lower) & (here.gradient > 0)) | ((vector >= upper) & (here.gradient < 0))
        step, gain = _step(here, held)
        trial = np.clip(vector + step, lower, upper)
        small = (np.abs(step) <= _STEP_TOLERANCE * (1.0 + np.abs(vector))).all(axis=1)
        done = ((gain >= 0) & (gain <= _GAIN_TOLERANCE * here.value) & (damping <= 1.0)) | (small & (damping <= 1.0))
        done |= here.value <= exact
        stop = done | (damping > _MAX_DAMPING)
        if stop.any():
            result.vector[alive[stop]], result.value[alive[stop]] = vector[stop], here.value[stop]
            result.converged[alive[stop]] = done[stop] | _stationary(here, held)[stop]
            go = ~stop
            if not go.any():
                return result
            alive = alive[go]
            vector, trial, damping, gain, exact = (x[go] for x in (vector, trial, damping, gain, exact))
            here = Local(*(x[go] for x in here))
            target, weight = _pick(target, go), _pick(weight, go)
        there = system.local(trial, objective, target, weight, damping * 0.1)
        better = (there.value < here.value) & (gain > 0)
        damping = np.where(better, damping * 0.1, damping * 8.0)
        vector = np.where(better[:, None], trial, vector)
        if better.all():
            here = there
            continue
        worse = ~better
        again = system.local(vector[worse], objective, _pick(target, worse), _pick(weight, worse), damping[worse])
        for new, old in zip(there, again, strict=True):
            new[worse] = old
        here = there
    result.vector[alive], result.value[alive] = vector, here.value
    result.converged[alive] = _stationary(here, held if len(held) == len(vector) else np.zeros_like(vector, dtype=bool))
    return result


def _step(here: Local, held: Flags) -> tuple[Array, Array]:
    """The damped Newton step and the decrease it predicts (negative where the matrix is indefinite along it)."""
    gradient = np.where(held, 0.0, here.gradient)
    matrix = np.where(held[:, :, None] | held[:, None, :], 0.0, here.hessian)
    size = matrix.shape[1]
    diagonal = matrix[:, range(size), range(size)]
    # The relative ridge keeps a flat direction solvable; a held or dead parameter gets a one.
    matrix[:, range(size), range(size)] = np.where(diagonal == 0.0, 1.0, diagonal + 1e-14 * np.abs(diagonal))
    try:
        step = -np.linalg.solve(matrix, gradient[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        step = -(np.linalg.pinv(matrix, rcond=1e-13, hermitian=True) @ gradient[:, :, None])[:, :, 0]
    return step, -0.5 * (gradient * step).sum(axis=1)


def _stationary(here: Local, held: Flags) -> Flags:
    """Whether the projected gradient is zero to rounding, measured against its terms."""
    gradient = np.where(held, 0.0, here.gradient)
    scale = np.sqrt(np.abs(np.einsum("rii->ri", here.hessian)) * np.maximum(here.value, 1e-300)[:, None])
    flat: Flags = (np.abs(gradient) <= 1e-5 * scale + 1e-12).all(axis=1)
    return flat
