"""The difference of two lines over runs matched by cell and seed.

Runs with the same cell and seed read the same data in the same order, and much of their noise is common: it cancels in
their difference, whose spread is then far below that of either line. Student's t of the matched differences needs no
law and no seed noise from elsewhere; two matched runs are the least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.errors import FitError
from scaling.laws.draws import Interval
from scaling.laws.points import Array, Points

_LEAST = 2  # matched runs for a spread
_LEAST_FOR_CORRELATION = 3


@dataclass(frozen=True)
class PairedDifference:
    """Loss of the line − loss of the reference, nats.

    Attributes:
        difference: mean over the matched runs; interval: 95 %, Student's t with runs − 1 degrees of freedom.
        runs: matched pairs.
        correlation: of the two lines over the matched runs, within cells; None below three pairs or without spread.
    """

    difference: float
    interval: Interval
    runs: int
    correlation: float | None

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.difference:+.3f} ± {(high - low) / 2:.3f} nats over {self.runs} matched runs"


def paired_difference(points: Points, line: str, reference: str, *, level: float = 0.95) -> PairedDifference:
    """The mean difference over the runs that both lines have at one cell and seed.

    Raises:
        FitError: fewer than two runs match.
    """
    cells, own, theirs = _matched(points, line, reference)
    if len(own) < _LEAST:
        raise FitError(
            "a paired difference takes runs of one cell and seed in both lines",
            got=f"{len(own)} matched runs of {line} and {reference}",
            allowed=f"at least {_LEAST}",
            hint="train both lines with the same seeds",
        )
    from scipy.special import stdtrit

    difference = own - theirs
    mean, freedom = float(difference.mean()), len(own) - 1
    half = float(stdtrit(freedom, (1.0 + level) / 2.0) * difference.std(ddof=1) / np.sqrt(len(own)))
    return PairedDifference(mean, (mean - half, mean + half), len(own), _correlation(cells, own, theirs))


def _matched(points: Points, line: str, reference: str) -> tuple[list[str], Array, Array]:
    """Cell and both losses of every matched run; the mean where a line has several runs of one cell and seed."""
    if points.line is None or points.seed is None:
        return [], np.empty(0), np.empty(0)
    cells = points.cell.tolist() if points.cell is not None else [""] * len(points)
    losses: dict[str, dict[tuple[str, str], list[float]]] = {line: {}, reference: {}}
    for name, cell, seed, loss in zip(points.line.tolist(), cells, points.seed.tolist(), points.loss, strict=True):
        if name in losses:
            losses[name].setdefault((cell, seed), []).append(float(loss))
    keys = [key for key in losses[line] if key in losses[reference]]
    own, theirs = (np.array([np.mean(losses[name][key]) for key in keys]) for name in (line, reference))
    return [cell for cell, _ in keys], own, theirs


def _correlation(cells: list[str], own: Array, theirs: Array) -> float | None:
    codes = np.unique(cells, return_inverse=True)[1]
    counts = np.bincount(codes)
    a, b = (values - (np.bincount(codes, values) / counts)[codes] for values in (own, theirs))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if len(own) >= _LEAST_FOR_CORRELATION and scale > 0 else None
