"""Intervals without impossible values.

The irreducible loss lies below every loss that was reached, so its draws are mirrored on log(min L − E): the interval
ends below min L however skewed they are. The frontier falls with compute, so a band over compute is made monotone: no
loss at more compute above the upper end at less, and none at less compute below the lower end at more. An estimate
that falls with compute stays inside.
"""

from __future__ import annotations

import numpy as np

from scaling.laws.draws import Draws, Interval
from scaling.laws.frontier import Frontier
from scaling.laws.noise_parts import NoiseParts
from scaling.laws.points import Array

_NEAREST = 1e-9  # of min L: a draw whose E is above the lowest loss counts as this far below it
_BELOW = 12  # frontier losses taken at less compute, which bound the one asked for


def parameter_intervals(draws: Draws, level: float = 0.95) -> dict[str, Interval]:
    """`Draws.intervals`, with the irreducible loss of residual draws mirrored on log(min L − E)."""
    floors = draws.fit.layout.floors if draws.kind == "residuals" else []
    return {
        name: floor_interval(draws, name, level) if name in floors else draws.interval(name, level)
        for name in draws.parameters
    }


def floor_interval(draws: Draws, name: str = "E", level: float = 0.95) -> Interval:
    """Interval of an irreducible loss, between zero and the lowest loss of its points; NaN without draws."""
    lowest = float(draws.fit.points.loss.min())
    values, estimate = draws.parameters[name], draws.fit.parameters[name]
    if not len(values):
        return (float("nan"), float("nan"))
    gap = np.log(np.maximum(lowest - np.append(values, estimate), _NEAREST * lowest))
    low, high = np.quantile(gap[:-1], [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    reach = max(float(high - gap[-1]), float(gap[-1] - low))
    ends = lowest - np.exp(gap[-1] + np.array([reach, -reach]))
    return max(0.0, float(ends[0])), min(float(ends[1]), lowest * (1.0 - _NEAREST))


def monotone_band(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Ends [m] along increasing compute that do not rise with it; both only move inward."""
    return np.maximum.accumulate(lower[::-1])[::-1], np.minimum.accumulate(upper)


def frontier_band(frontier: Frontier, compute: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Lower and upper end of the frontier loss [m] at increasing `compute` [m], mirrored in log and monotone.

    Raises:
        FitError: the frontier has no draws.
    """
    ends = [_loss_interval(frontier, float(c), level) for c in compute]
    return monotone_band(np.array([low for low, _ in ends]), np.array([high for _, high in ends]))


def frontier_loss_interval(frontier: Frontier, compute: float, level: float = 0.95) -> Interval:
    """Interval of the frontier loss at `compute`, below the upper end everywhere between the data and there."""
    first = min(float(frontier.fit.points.compute.min()), compute)
    lower, upper = frontier_band(frontier, np.geomspace(first, compute, _BELOW), level)
    return float(lower[-1]), float(upper[-1])


def run_loss_interval(
    frontier: Frontier, parts: NoiseParts, compute: float, *, seed: int = 0, level: float = 0.95
) -> Interval:
    """Interval of the loss of one further compute-optimal run: the law's draws with a run's own noise on each."""
    losses = frontier.loss_draws(compute)
    noisy = losses * np.exp(parts.run_noise(np.random.default_rng(seed), len(losses)))
    return _around(frontier, noisy, compute, level)


def _loss_interval(frontier: Frontier, compute: float, level: float) -> Interval:
    return _around(frontier, frontier.loss_draws(compute), compute, level)


def _around(frontier: Frontier, losses: Array, compute: float, level: float) -> Interval:
    assert frontier.draws is not None
    return frontier.draws.around(losses, frontier.loss_at(compute), level, in_log=True)
