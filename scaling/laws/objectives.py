"""What a fit minimises: a sum over points of weight · ρ(residual).

| name        | residual            | ρ                                                                            |
|-------------|---------------------|------------------------------------------------------------------------------|
| `log_huber` | log L̂ − log L       | Huber with δ (default 1e-3), **summed**: Hoffmann et al. 2203.15556, eq. (3)   |
| `log_mse`   | log L̂ − log L       | r² : maximum likelihood under log-normal noise                                 |
| `huber`     | L̂ − L               | Huber with δ                                                                 |
| `mse`       | L̂ − L               | r²                                                                           |

δ is a number, or `auto`: 1.345 σ̂ with σ̂ = 1.4826 · median |r|, the p smallest residuals left out because a fit that is
nearly L1 passes through p points (1.345 is 95 % efficient for normal noise, Huber 1981, section 4.5). δ of 1e-3 is
nearly L1 where noise is 2 %.

Huber's ρ is r²/2 inside δ and δ(|r| − δ/2) outside (Huber 1964). Sums, never means: a mean divides the gradient by n,
and a solver with an absolute tolerance then stops early, which is how the published Chinchilla fit missed its own
optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from scaling.errors import FitError
from scaling.laws.points import Array

NAMES = ("log_huber", "log_mse", "mse", "huber")
Delta = float | Literal["auto"]  # as asked for
DEFAULT_DELTA = 1e-3  # Hoffmann et al. 2203.15556, appendix D.2
_EFFICIENT, _MEDIAN_TO_SIGMA = 1.345, 1.4826  # Huber 1981; 1 / Φ⁻¹(3/4)
_LEAST_WIDTH = 1e-7  # assumption: residuals below it are rounding, and any width serves


class Curvature(NamedTuple):
    """ρ at every residual, with what a Newton step needs; all [draws, points]."""

    value: Array  # ρ
    slope: Array  # dρ/dr
    second: Array  # d²ρ/dr², one of its one-sided values at the kink
    majoriser: Array  # slope / r: the weight of the least-squares problem that lies above ρ


@dataclass(frozen=True)
class Objective:
    """One row of the table above; `delta` is None for the squared ones."""

    name: str
    delta: float | None

    @property
    def in_log(self) -> bool:
        """Whether residuals are differences of log losses."""
        return self.name.startswith("log_")

    def rho(self, residual: Array) -> Array:
        """ρ(residual), same shape."""
        if self.delta is None:
            return residual * residual
        slope = np.clip(residual, -self.delta, self.delta)
        return slope * (residual - 0.5 * slope)

    def curvature(self, residual: Array) -> Curvature:
        """ρ and its derivatives at `residual` [draws, points]; `residual` is consumed."""
        if self.delta is None:
            two = np.full_like(residual, 2.0)
            return Curvature(residual * residual, 2.0 * residual, two, two.copy())
        majoriser = np.abs(residual)
        np.maximum(majoriser, self.delta, out=majoriser)
        np.divide(self.delta, majoriser, out=majoriser)
        slope = residual * majoriser
        # slope is now clip(residual, -δ, δ), and the majoriser is one exactly where the residual is inside δ.
        value = np.multiply(slope, -0.5)
        value += residual
        value *= slope
        return Curvature(value, slope, np.floor(majoriser, out=residual), majoriser)


def automatic_width(residual: Array, fitted: int) -> float:
    """The width δ that `auto` takes from the residuals [n] of a fit of `fitted` parameters, in their unit."""
    size = np.sort(np.abs(residual))[min(fitted, len(residual) - 1) :]
    return max(_EFFICIENT * _MEDIAN_TO_SIGMA * float(np.median(size)), _LEAST_WIDTH)


def objective_named(name: str, delta: float | None = None) -> Objective:
    """The objective called `name`; `delta` is the Huber width in units of the residual (None: 1e-3).

    Raises:
        FitError: an unknown name, or a delta that is not positive.
    """
    if name not in NAMES:
        raise FitError("unknown objective", got=name, allowed=", ".join(NAMES))
    if not name.endswith("huber"):
        return Objective(name, None)
    width = DEFAULT_DELTA if delta is None else float(delta)
    if not (np.isfinite(width) and width > 0):
        raise FitError(
            "delta is the width of the Huber loss", got=repr(delta), allowed="a positive number, such as 1e-3"
        )
    return Objective(name, width)
