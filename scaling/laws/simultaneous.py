"""Bands that hold over several budgets at once, and the verdicts they support.

With the deviation of every draw from the estimate in units of its 68.3 % quantile at each budget, the critical value is
the 95 % quantile over draws of the largest of them (sup-t; Montiel Olea and Plagborg-Møller 2019): about 2.4 for three
to six budgets. The band alone decides the verdict; the size of the difference is reported beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from scaling.laws.points import Array

VerdictWord = Literal["better", "worse", "equivalent", "not resolved"]
DEFAULT_MARGIN = 0.20  # of compute; assumption: docs/design.md, "Laws and fits"
_UNIT = 0.683  # the share within one standard deviation


@dataclass(frozen=True, eq=False)
class Band:
    """Estimates [m] with pointwise and simultaneous half-widths [m], both mirrored around the estimate."""

    estimate: Array
    pointwise: Array
    simultaneous: Array
    critical: float

    @property
    def lower(self) -> Array:
        """Lower end of the simultaneous band [m]."""
        return self.estimate - self.simultaneous

    @property
    def upper(self) -> Array:
        """Upper end of the simultaneous band [m]."""
        return self.estimate + self.simultaneous


def band(estimate: Array, draws: Array, level: float = 0.95) -> Band:
    """The band of quantities with estimates [m] and joint draws [draws, m].

    A half-width is infinite where there are no draws.
    """
    if not len(draws):
        return Band(estimate, np.full(len(estimate), np.inf), np.full(len(estimate), np.inf), float("nan"))
    deviation = draws - estimate
    low, high = np.quantile(deviation, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    size = np.abs(deviation)
    unit = np.quantile(size, _UNIT, axis=0)
    scaled = size / np.where(unit > 0, unit, 1.0)
    critical = float(np.quantile(scaled.max(axis=1), level))
    return Band(estimate, np.maximum(high, -low), critical * unit, critical)


@dataclass(frozen=True, eq=False)
class BandVerdict:
    """What a simultaneous band of log compute multipliers says.

    Attributes:
        band: of log multipliers over budgets; above zero favours the line.
        margin: relative difference of compute below which two lines count as equal.
    """

    band: Band
    margin: float

    @cached_property
    def words(self) -> tuple[VerdictWord, ...]:
        """The verdict at each budget."""
        ends = zip(self.band.lower.tolist(), self.band.upper.tolist(), strict=True)
        return tuple(_word(low, high, self.margin) for low, high in ends)

    @property
    def crosses(self) -> bool:
        """Better at one budget and worse at another."""
        return {"better", "worse"} <= set(self.words)

    @property
    def word(self) -> VerdictWord:
        """Over all budgets: `better` or `worse` where some budget says so and none the opposite; `equivalent` where
        the whole band lies inside the margin.
        """
        words = set(self.words)
        for word in ("better", "worse"):
            if word in words and not self.crosses:
                return word
        return "equivalent" if words == {"equivalent"} else "not resolved"

    @property
    def smallest_margin(self) -> float:
        """The smallest margin within which the lines are equal: .37 is ±37 % of compute; infinite without draws."""
        reach = float(np.max(np.abs(self.band.estimate) + self.band.simultaneous))
        return float(np.expm1(min(reach, 700.0))) if np.isfinite(reach) else float("inf")

    @property
    def large(self) -> bool:
        """Whether some estimate is beyond the margin, which is another question than whether it is significant."""
        return bool((np.abs(self.band.estimate) > np.log1p(self.margin)).any())


def _word(low: float, high: float, margin: float) -> VerdictWord:
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    reach = float(np.log1p(margin))
    return "equivalent" if -reach <= low and high <= reach else "not resolved"
