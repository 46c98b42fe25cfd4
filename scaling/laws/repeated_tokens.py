"""Compute-optimal parameters of the distinct tokens of each run, which `data_constrained` reads.

`data_constrained` compares N with U_N, the compute-optimal parameters of the U distinct tokens under the same law with
nothing repeated (Muennighoff et al. 2305.16264, section 3.1). A table without that column gets it from the law itself.
Their own recipe fixes the base (E, A, B, alpha, beta) from runs without repetition and fits R_N and R_D alone: `fixed`
with all of the base, which then gives U_N at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from scaling.errors import FitError
from scaling.laws.fitting import fit
from scaling.laws.forms import CHINCHILLA
from scaling.laws.frontier import balanced_params
from scaling.laws.objectives import Delta
from scaling.laws.points import Array, Points

_BASE = ("A", "alpha", "B", "beta")  # U_N follows from these
_ONE_EPOCH = 1.0 + 1e-6  # tokens over distinct tokens, written as rounded numbers
_LEAST = 1e-3  # of the smallest model tried: what is worn out below that is worn out
_ROUNDS, _SETTLED = 40, 1e-6  # each round halves the distance; U_N matters far less than this, relative


def with_unique_params(
    points: Points,
    *,
    objective: str = "log_huber",
    delta: Delta | None = None,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
) -> Points:
    """The points with `unique_params` = min(N, U_N) such that `data_constrained`, fitted to them, gives the same U_N.

    The first guess is `chinchilla` fitted to the runs that repeat no token. Later draws and hold-outs keep this U_N.

    Raises:
        FitError: no `unique_tokens`, too few runs of at most one epoch for a first guess, or U_N does not settle.
    """
    if points.unique_tokens is None:
        raise FitError("law data_constrained reads the distinct tokens of every run, column unique_tokens")
    if fixed and set(_BASE) <= set(fixed):
        return replace(points, unique_params=_deserved(fixed, points))
    base_fixed = {name: value for name, value in (fixed or {}).items() if name in CHINCHILLA.parameter_names}
    once = points.tokens <= _ONE_EPOCH * points.unique_tokens
    try:
        law = fit(points.select(np.flatnonzero(once)), objective=objective, delta=delta, fixed=base_fixed, tied=tied)
    except FitError as error:
        raise FitError(
            f"the runs without repeated tokens do not determine a law: {error.what}",
            got=f"{int(once.sum())} of {len(points)} runs with tokens at most unique_tokens",
            allowed="more of them, or a column unique_params (compute-optimal parameters for unique_tokens)",
        ) from error
    unique = _deserved(law.parameters, points)
    before = None
    for _ in range(_ROUNDS):
        points = replace(points, unique_params=unique)
        before = fit(points, "data_constrained", objective=objective, delta=delta, fixed=fixed, tied=tied, near=before)
        settled = _deserved(before.parameters, points)
        if np.abs(np.log(settled / unique)).max() <= _SETTLED:
            return points
        unique = np.sqrt(unique * settled)  # whole rounds overshoot, to and fro
    raise FitError(
        "the compute-optimal parameters for unique_tokens do not settle",
        got=f"{_ROUNDS} rounds",
        allowed="a column unique_params",
    )


def _deserved(parameters: Mapping[str, float], points: Points) -> Array:
    """U_N of every point, at most N."""
    assert points.unique_tokens is not None
    deserved: Array = np.clip(
        balanced_params(parameters, points.unique_tokens), _LEAST * points.params.min(), points.params
    )
    return deserved
