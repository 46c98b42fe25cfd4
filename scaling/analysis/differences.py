"""Differences: the loss of a line minus that of the reference at equal cost, and whether that is worth a word.

At every budget both lines trained at, the difference is between their frontiers (approach 3, every bootstrap draw its
own), or between their isoFLOP minima where a line has no parametric law. At the largest common budget the same
question is asked once more with another cost held equal (6ND, device seconds): a line that wins per FLOP may lose per
second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from scaling.analysis.lines import Line
from scaling.check import Check
from scaling.laws.isoflop import Minimum
from scaling.laws.verdict import Axis, Verdict, compare, judge, verdict_checks

Method = Literal["frontiers", "isoFLOP minima"]
_NORMAL_DRAWS = 4000


@dataclass(frozen=True)
class Difference:
    """Loss of `line` minus loss of `reference`, nats per token; `budget` is None on the other axes."""

    line: str
    reference: str
    method: Method
    budget: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Contest:
    """One line against the reference: by budget ascending, and on the other axes at the largest budget."""

    line: Line
    reference: Line
    by_budget: tuple[Difference, ...]
    other_axes: tuple[Difference, ...]

    @property
    def headline(self) -> Difference:
        """The difference at the largest budget."""
        return self.by_budget[-1]

    @property
    def checks(self) -> tuple[Check, ...]:
        """Whether the axes disagree, or there is no scale."""
        return verdict_checks([d.verdict for d in (self.headline, *self.other_axes)])


def reference_of(lines: Sequence[Line]) -> Line:
    """The line that others are compared with: the first dense one, else the first."""
    return next((line for line in lines if line.rank_ratio is None), lines[0])


def contest(line: Line, reference: Line, *, sigma_seed: float | None) -> Contest | None:
    """`line` against `reference`; None where they share no compute at which both can be read."""
    by_budget = [_at_budget(line, reference, budget, sigma_seed) for budget in _shared(line, reference)]
    known = tuple(difference for difference in by_budget if difference is not None)
    if not known:
        return None
    return Contest(line, reference, known, _other_axes(line, reference, known[-1], sigma_seed))


def _shared(line: Line, reference: Line) -> list[float]:
    """Common budgets; without budgets, the largest compute both tables reach."""
    if line.budgets and reference.budgets:
        return [budget for budget in reference.budgets if budget in line.budgets]
    low, high = (f([float(f(x.points.compute)) for x in (line, reference)]) for f in (max, min))
    return [high] if high >= low / 1e3 else []


def _at_budget(line: Line, reference: Line, budget: float, sigma_seed: float | None) -> Difference | None:
    mine, theirs = line.frontier, reference.frontier
    axis: Axis = "exact" if line.axis == "exact" else "6ND"
    if mine and theirs and mine.draws and theirs.draws:
        verdict = compare(mine, theirs, budget, axis=axis, sigma_seed=sigma_seed, paired=False)
        return Difference(line.name, reference.name, "frontiers", budget, verdict)
    bottoms = _minimum(line, budget), _minimum(reference, budget)
    if None in bottoms:
        return None
    first, second = (_loss_draws(bottom, order) for order, bottom in enumerate(bottoms) if bottom)
    verdict = judge(float(first[0] - second[0]), first[1:] - second[1:], axis=axis, cost=budget, sigma_seed=sigma_seed)
    return Difference(line.name, reference.name, "isoFLOP minima", budget, verdict)


def _minimum(line: Line, budget: float) -> Minimum | None:
    """The minimum of a budget with an interval; a parabola through three points, of unknown noise, has none."""
    for minimum in line.isoflop.bracketed if line.isoflop else ():
        low, high = minimum.loss_interval or (0.0, 0.0)
        if minimum.budget == budget and high > low:
            return minimum
    return None


def _loss_draws(minimum: Minimum, order: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The loss of a minimum, then draws with its interval (a normal of the same width)."""
    low, high = minimum.loss_interval or (minimum.loss, minimum.loss)
    draws = np.random.default_rng(order).normal(minimum.loss, (high - low) / (2 * 1.96), _NORMAL_DRAWS)
    return np.concatenate([[minimum.loss], draws])


def _other_axes(line: Line, reference: Line, headline: Difference, sigma_seed: float | None) -> tuple[Difference, ...]:
    """The same question where another cost is held equal: what the reference's optimum spends on that axis."""
    if line.frontier is None or reference.frontier is None or headline.budget is None:
        return ()
    if line.law is None or line.law.draws is None or reference.law is None or reference.law.draws is None:
        return ()
    best = reference.frontier.at(headline.budget)
    found = []
    axes: tuple[Axis, ...] = ("exact", "6ND", "device_seconds")
    for axis in axes:
        if axis == line.axis or axis not in line.costs or axis not in reference.costs:
            continue
        cost = float(reference.costs[axis](np.array([best.params]))[0] * best.tokens)
        mine, theirs = line.frontier_on(axis), reference.frontier_on(axis)
        assert mine is not None
        assert theirs is not None
        verdict = compare(mine, theirs, cost, axis=axis, sigma_seed=sigma_seed, paired=False)
        found.append(Difference(line.name, reference.name, "frontiers", None, verdict))
    return tuple(found)


def exponent_difference(line: Line, reference: Line) -> tuple[float, tuple[float, float]] | None:
    """Exponent of N_opt of `line` minus the reference's, with its 95 % interval; None without two laws with draws."""
    laws = (line.law, reference.law)
    if any(law is None or law.draws is None or "N" not in law.draws.exponents for law in laws):
        return None
    first, second = (law.draws.exponents["N"] for law in laws if law and law.draws)
    count = min(len(first), len(second))
    low, high = np.quantile(first[:count] - second[:count], [0.025, 0.975])
    values = [law.fit.exponents["N"] for law in laws if law]
    return values[0] - values[1], (float(low), float(high))


def frontiers_cross(differences: Sequence[Difference]) -> bool:
    """Whether the sign of the difference changes between budgets."""
    return any(a.verdict.difference_nats * b.verdict.difference_nats < 0 for a, b in pairwise(differences))
