"""Lines against a reference: the compute multiplier with its verdict, and the loss differences at equal cost.

The verdict comes from one joint law over all lines (`laws.joint_comparison`): a simultaneous 95 % band over the shared
budgets. The same draws give the loss difference at every budget, and at one cost of the other axes
(6ND, device seconds): a line that wins per FLOP may lose per second. Where no joint law is determined, the difference
is between isoFLOP minima, whose band over budgets gives the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from scaling.analysis.joint_lines import joint_points, not_determined, on_axis
from scaling.analysis.lines import Line
from scaling.analysis.settings import Settings
from scaling.checks import Check
from scaling.errors import FitError
from scaling.laws.comparison import Axis, Verdict, axes_checks, word_for
from scaling.laws.draws import percentile_interval
from scaling.laws.isoflop import Minimum
from scaling.laws.line_comparison import LineComparison
from scaling.laws.paired_seeds import PairedDifference, paired_difference
from scaling.laws.resolving import Resolution, what_would_resolve
from scaling.laws.simultaneous import VerdictWord, band

Method = Literal["joint law M3", "joint law M1", "isoFLOP minima"]
ExponentDifference = tuple[float, tuple[float, float]]
_NORMAL_DRAWS = 4000
_AXES: tuple[Axis, ...] = ("exact", "6ND", "device_seconds")


@dataclass(frozen=True)
class Difference:
    """Loss of `line` minus loss of `reference`, nats per token; `budget` is None on the other axes."""

    line: str
    reference: str
    method: Method
    budget: float | None
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class Comparison:
    """One line against the reference: by budget ascending, and on the other axes.

    Attributes:
        joint: the compute multiplier and its verdict; None where only isoFLOP minima are compared.
        by_budget: with simultaneous 95 % bands. other_axes: likewise, at one shared cost of each axis.
        matched: the mean difference over runs of one cell and seed; None where fewer than two match.
    """

    line: Line
    reference: Line
    joint: LineComparison | None
    by_budget: tuple[Difference, ...]
    other_axes: tuple[Difference, ...]
    matched: PairedDifference | None

    @property
    def headline(self) -> Difference:
        """The difference at the largest budget that has the verdict over all budgets; at the largest where none has."""
        same = [difference for difference in self.by_budget if difference.verdict.word == self.word]
        return (same or self.by_budget)[-1]

    @property
    def word(self) -> VerdictWord:
        """Over all budgets."""
        if self.joint is not None:
            return self.joint.verdict.word
        words = {difference.verdict.word for difference in self.by_budget}
        return next((word for word in ("better", "worse") if word in words and not self.crosses), "not resolved")

    @property
    def crosses(self) -> bool:
        """Better at one budget and worse at another."""
        return {"better", "worse"} <= {difference.verdict.word for difference in self.by_budget}

    @cached_property
    def resolution(self) -> Resolution | None:
        """Which further runs would resolve the verdict; None where it is resolved, or rests on minima."""
        return what_would_resolve(self.joint) if self.joint and self.word == "not resolved" else None

    @property
    def checks(self) -> tuple[Check, ...]:
        """Whether the axes disagree."""
        names = (self.line.name, self.reference.name)
        words = {self.headline.verdict.axis: self.word} | {d.verdict.axis: d.verdict.word for d in self.other_axes}
        return axes_checks(words, names)


def reference_of(lines: Sequence[Line]) -> Line:
    """The line that others are compared with: the first dense one, else the first."""
    return next((line for line in lines if line.rank_ratio is None), lines[0])


def compare_pair(
    line: Line, reference: Line, joint: LineComparison | None, settings: Settings, sigma_seed: float | None
) -> Comparison:
    """`line` against `reference`.

    Raises:
        FitError: they share no compute at which both can be read; the message says why.
    """
    why = not_determined(joint) if joint is not None else None
    if joint is not None and why is None:
        by_budget = _by_law(joint, line, reference, sigma_seed)
        others = _other_axes(joint, line, reference, sigma_seed)
    else:
        joint, by_budget, others = None, _by_minima(line, reference, sigma_seed), ()
    if not by_budget:
        raise FitError(why or "no shared budget has a bracketed minimum with an interval in both lines")
    return Comparison(line, reference, joint, by_budget, others, _matched(line, reference, settings))


def exponent_difference(line: Line, reference: Line) -> ExponentDifference | None:
    """Exponent of N_opt of `line` minus the reference's, with its 95 % interval; None without two laws with draws."""
    samples = [
        law.draws for one in (line, reference) if (law := one.law) and law.draws and law.fit.status != "degenerate"
    ]
    if len(samples) < 2 or any("N" not in draws.exponents or not len(draws.vectors) for draws in samples):
        return None
    first, second = (draws.exponents["N"] for draws in samples)
    count = min(len(first), len(second))
    values = [draws.fit.exponents["N"] for draws in samples]
    return values[0] - values[1], percentile_interval(first[:count] - second[:count])


def _by_law(joint: LineComparison, line: Line, reference: Line, sigma_seed: float | None) -> tuple[Difference, ...]:
    shared = [budget for budget in reference.budgets if budget in line.budgets]
    named = shared if len(shared) == len(joint.costs) else [None] * len(joint.costs)
    axis: Axis = "exact" if line.axis == reference.axis == "exact" else "6ND"
    return tuple(_difference(joint, k, axis, budget, sigma_seed) for k, budget in enumerate(named))


def _difference(
    joint: LineComparison, k: int, axis: Axis, budget: float | None, sigma_seed: float | None
) -> Difference:
    cost, differences = float(joint.costs[k]), joint.differences
    interval = (float(differences.lower[k]), float(differences.upper[k]))
    value, word = float(differences.estimate[k]), joint.verdict.words[k]
    paired = joint.joint.parts.groups.shared is not None
    verdict = Verdict(axis, budget or cost, value, interval, sigma_seed, paired, word)
    method: Method = "joint law M3" if joint.model == "M3" else "joint law M1"
    return Difference(joint.line, joint.reference, method, budget, verdict)


def _other_axes(joint: LineComparison, line: Line, reference: Line, sigma_seed: float | None) -> tuple[Difference, ...]:
    """The same question where another cost is held equal, at the largest shared cost of that axis that has the verdict
    over all of them.
    """
    result = []
    for axis in _AXES:
        other = None if axis == line.axis else on_axis(joint, axis, (line, reference))
        if other is not None:
            word, words = other.verdict.word, other.verdict.words
            at = max((k for k in range(len(words)) if words[k] == word), default=len(words) - 1)
            difference = _difference(other, at, axis, None, sigma_seed)
            result.append(replace(difference, verdict=replace(difference.verdict, word=word)))
    return tuple(result)


def _by_minima(line: Line, reference: Line, sigma_seed: float | None) -> tuple[Difference, ...]:
    """Differences of isoFLOP minima at the shared budgets, with a simultaneous band over them."""
    shared = [
        (budget, mine, theirs)
        for budget in reference.budgets
        if (mine := _minimum(line, budget)) and (theirs := _minimum(reference, budget))
    ]
    if not shared:
        return ()
    rng = np.random.default_rng(0)
    estimate = np.array([mine.loss - theirs.loss for _, mine, theirs in shared])
    spread = np.array([np.hypot(_deviation(mine), _deviation(theirs)) for _, mine, theirs in shared])
    bands = band(estimate, estimate + spread * rng.normal(size=(_NORMAL_DRAWS, len(shared))))
    axis: Axis = "exact" if line.axis == "exact" else "6ND"
    result = []
    for (budget, _, _), value, low, high in zip(shared, estimate, bands.lower, bands.upper, strict=True):
        interval = (float(low), float(high))
        verdict = Verdict(axis, budget, float(value), interval, sigma_seed, False, word_for(interval))
        result.append(Difference(line.name, reference.name, "isoFLOP minima", budget, verdict))
    return tuple(result)


def _minimum(line: Line, budget: float) -> Minimum | None:
    """The minimum of a budget that has an interval."""
    minima = line.isoflop.bracketed if line.isoflop else ()
    return next((one for one in minima if one.budget == budget and one.loss_interval is not None), None)


def _deviation(minimum: Minimum) -> float:
    """Standard deviation of the loss of a minimum, from its interval."""
    low, high = minimum.loss_interval or (minimum.loss, minimum.loss)
    return (high - low) / (2 * 1.96)


def _matched(line: Line, reference: Line, settings: Settings) -> PairedDifference | None:
    try:
        return paired_difference(joint_points((line, reference), settings), line.name, reference.name)
    except FitError:
        return None
