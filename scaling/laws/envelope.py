"""Approach 1: every shape at several horizons; at each compute the shape with the lowest loss is the optimal one.

Only final losses of decayed runs belong on the envelope (a loss read in mid-schedule is too high by what the decay
would have bought), so each shape needs runs of its own at three horizons or more; where shapes do not have them
approach 1 is not reported. Between the horizons of a shape log loss is interpolated in log C. Compute levels won by
the smallest or the largest shape of those present are left out: there the true optimum may lie beyond. Hoffmann et
al. 2203.15556, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.errors import FitError
from scaling.laws.draws import Interval
from scaling.laws.points import Array, Points

MIN_HORIZONS = 3
MIN_WINNERS = 3
_LEVELS = 1500  # compute levels, as Hoffmann et al.


@dataclass(frozen=True, eq=False)
class Envelope:
    """The envelope of one line: at each compute level [levels] the winning N, D and interpolated loss, and exponents.

    `exponent_intervals` are 95 %, from leaving out one shape at a time. Of `shapes` that took part, `winners` won at
    some level.
    """

    compute: Array
    params: Array
    tokens: Array
    loss: Array
    exponents: dict[str, float]
    exponent_intervals: dict[str, Interval]
    shapes: int
    winners: int


def envelope(points: Points) -> Envelope:
    """The lower envelope and its power laws.

    Raises:
        FitError: fewer than three shapes have three horizons, or fewer than three of them win inside the range.
    """
    sizes = [n for n in np.unique(points.params) if len(np.unique(points.tokens[points.params == n])) >= MIN_HORIZONS]
    if len(sizes) < MIN_WINNERS:
        raise FitError(
            "approach 1 needs shapes trained to several horizons, each to the end of its own schedule",
            got=f"{len(sizes)} shapes with {MIN_HORIZONS} horizons",
            allowed=f"at least {MIN_WINNERS}",
        )
    whole = _trace(points, sizes)
    if whole is None:
        raise FitError(
            "the envelope has no interior: the smallest or the largest shape wins nearly everywhere",
            allowed=f"at least {MIN_WINNERS} shapes that win between them",
        )
    compute, params, tokens, loss, exponents = whole
    leave_out = [trace[4] for n in sizes if (trace := _trace(points, [m for m in sizes if m != n])) is not None]
    intervals = {name: _jackknife(value, [e[name] for e in leave_out]) for name, value in exponents.items()}
    return Envelope(compute, params, tokens, loss, exponents, intervals, len(sizes), len(np.unique(params)))


def _trace(points: Points, sizes: list[float]) -> tuple[Array, Array, Array, Array, dict[str, float]] | None:
    log_compute = np.log(points.compute)
    rows = [np.flatnonzero(points.params == n) for n in sizes]
    levels = np.linspace(min(log_compute[r].min() for r in rows), max(log_compute[r].max() for r in rows), _LEVELS)
    losses, tokens = (np.full((len(sizes), _LEVELS), np.inf) for _ in range(2))
    for k, row in enumerate(rows):
        order = row[np.argsort(log_compute[row], kind="stable")]
        losses[k] = np.interp(levels, log_compute[order], np.log(points.loss[order]), left=np.inf, right=np.inf)
        tokens[k] = np.interp(levels, log_compute[order], np.log(points.tokens[order]))
    winner = losses.argmin(axis=0)
    present = np.isfinite(losses)
    smallest, largest = present.argmax(axis=0), len(sizes) - 1 - present[::-1].argmax(axis=0)
    inside = (winner > smallest) & (winner < largest)
    if len(np.unique(winner[inside])) < MIN_WINNERS:
        return None
    at = np.flatnonzero(inside)
    params = np.array(sizes)[winner[at]]
    log_tokens = tokens[winner[at], at]
    exponents = {
        "N": float(np.polyfit(levels[at], np.log(params), 1)[0]),
        "D": float(np.polyfit(levels[at], log_tokens, 1)[0]),
    }
    return np.exp(levels[at]), params, np.exp(log_tokens), np.exp(losses[winner[at], at]), exponents


def _jackknife(value: float, left_out: list[float]) -> Interval:
    """95 % normal interval from leave-one-out values; infinite with fewer than three of them."""
    count = len(left_out)
    if count < 3:
        return (-float("inf"), float("inf"))
    error = float(np.sqrt((count - 1) * np.var(left_out)))
    return (value - 1.96 * error, value + 1.96 * error)
