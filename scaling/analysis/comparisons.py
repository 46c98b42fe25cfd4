"""Differences: the loss of a line minus that of the reference at equal cost, and whether it is significant.

At every budget both lines trained at, the difference is between their frontiers (approach 3), or between their isoFLOP
minima where a line has no parametric law. Where two lines were trained at the same budgets and shapes with the same
seeds, their bootstrap draws are paired cell by cell, so that what they share drops out of the difference; otherwise
each line has its own. At the largest common budget the same question is asked once more with another cost held equal
(6ND, device seconds): a line that wins per FLOP may lose per second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from scaling.analysis.lines import Line, line_seed
from scaling.checks import Check
from scaling.laws.comparison import Axis, Verdict, compare, judge, paired_bootstrap, verdict_checks
from scaling.laws.draws import Draws, percentile_interval
from scaling.laws.frontier import Frontier
from scaling.laws.isoflop import Minimum

Method = Literal["frontiers", "isoFLOP minima"]
Pair = tuple[Draws, Draws]
ExponentDifference = tuple[float, tuple[float, float]]
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
class Comparison:
    """One line against the reference: by budget ascending, and on the other axes at the largest budget.

    `exponent` is the exponent of N_opt of `line` minus the reference's, with its 95 % interval.
    """

    line: Line
    reference: Line
    by_budget: tuple[Difference, ...]
    other_axes: tuple[Difference, ...]
    exponent: ExponentDifference | None

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


def compare_lines(line: Line, reference: Line, *, sigma_seed: float | None, seed: int = 0) -> Comparison | None:
    """`line` against `reference`; None where they share no compute at which both can be read."""
    pair = _paired_draws(line, reference, seed)
    by_budget = [_at_budget(line, reference, budget, sigma_seed, pair) for budget in _shared(line, reference)]
    known = tuple(difference for difference in by_budget if difference is not None)
    if not known:
        return None
    others = _other_axes(line, reference, known[-1], sigma_seed, pair)
    return Comparison(line, reference, known, others, _exponents(line, reference, pair))


def _paired_draws(line: Line, reference: Line, seed: int) -> Pair | None:
    """Draws that pair the cells of two lines; None where the designs do not, or cells were tuned and chosen again."""
    laws = (line.law, reference.law)
    if any(law is None or law.draws is None for law in laws) or line.choices or reference.choices:
        return None
    fits, draws, noises = zip(*((law.fit, law.draws, law.noise) for law in laws if law and law.draws), strict=True)
    if draws[0].kind != draws[1].kind:
        return None
    noise = max((known.sigma_log for known in noises if known), default=None)
    own = line_seed(f"{line.name} {reference.name}", seed)
    return paired_bootstrap(*fits, draws=draws[0].drawn, seed=own, kind=draws[0].kind, noise=noise)


def _shared(line: Line, reference: Line) -> list[float]:
    """Common budgets; without budgets, the largest compute both tables reach."""
    if line.budgets and reference.budgets:
        return [budget for budget in reference.budgets if budget in line.budgets]
    low, high = (f([float(f(x.points.compute)) for x in (line, reference)]) for f in (max, min))
    return [high] if high >= low / 1e3 else []


def _at_budget(
    line: Line, reference: Line, budget: float, sigma_seed: float | None, pair: Pair | None
) -> Difference | None:
    mine, theirs = _frontiers(line, reference, pair)
    axis: Axis = "exact" if line.axis == "exact" else "6ND"
    if mine and theirs and mine.draws and theirs.draws:
        verdict = compare(mine, theirs, budget, axis=axis, sigma_seed=sigma_seed, paired=pair is not None)
        return Difference(line.name, reference.name, "frontiers", budget, verdict)
    bottoms = _minimum(line, budget), _minimum(reference, budget)
    if None in bottoms:
        return None
    first, second = (_loss_draws(bottom, order) for order, bottom in enumerate(bottoms) if bottom)
    verdict = judge(float(first[0] - second[0]), first[1:] - second[1:], axis=axis, cost=budget, sigma_seed=sigma_seed)
    return Difference(line.name, reference.name, "isoFLOP minima", budget, verdict)


def _frontiers(
    line: Line, reference: Line, pair: Pair | None, axis: str | None = None
) -> tuple[Frontier | None, Frontier | None]:
    """On one axis, each on its own where none is given."""
    mine, theirs = pair or (None, None)
    return line.frontier_on(axis or line.axis, draws=mine), reference.frontier_on(axis or reference.axis, draws=theirs)


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


def _other_axes(
    line: Line, reference: Line, headline: Difference, sigma_seed: float | None, pair: Pair | None
) -> tuple[Difference, ...]:
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
        mine, theirs = _frontiers(line, reference, pair, axis)
        assert mine is not None
        assert theirs is not None
        verdict = compare(mine, theirs, cost, axis=axis, sigma_seed=sigma_seed, paired=pair is not None)
        found.append(Difference(line.name, reference.name, "frontiers", None, verdict))
    return tuple(found)


def _exponents(line: Line, reference: Line, pair: Pair | None) -> ExponentDifference | None:
    """None without two laws with draws that converged."""
    laws = (line.law, reference.law)
    if any(law is None or law.draws is None or "N" not in law.draws.exponents for law in laws):
        return None
    drawn = pair or tuple(law.draws for law in laws if law and law.draws)
    first, second = (draws.exponents["N"] for draws in drawn)
    count = min(len(first), len(second))
    if not count:
        return None
    values = [law.fit.exponents["N"] for law in laws if law]
    return values[0] - values[1], percentile_interval(first[:count] - second[:count])


def frontiers_cross(differences: Sequence[Difference]) -> bool:
    """Whether the sign of the difference changes between budgets."""
    return any(a.verdict.difference_nats * b.verdict.difference_nats < 0 for a, b in pairwise(differences))
