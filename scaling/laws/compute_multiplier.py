"""The compute multiplier of a line against a reference, and the costs at which the two are compared.

At cost C, ℓ is the larger of the two frontier losses; the multiplier is C over the cost at which the better line
reaches ℓ, inverted for the worse. It looks down in compute, where both lines were measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.errors import FitError
from scaling.laws.draws import Interval
from scaling.laws.frontier import FlopsPerToken
from scaling.laws.joint_models import ModelName
from scaling.laws.line_frontiers import LineFrontier
from scaling.laws.noise_groups import budget_codes
from scaling.laws.points import FLOPS_PER_PARAM_TOKEN, Array, Points
from scaling.laws.simultaneous import band
from scaling.laws.solver.identifiability import SAME_COMPUTE

CostPerToken = Mapping[str, FlopsPerToken]

LARGEST_LOG = 700.0  # what a float holds
_WILDEST = float(np.log(1e4))  # of a multiplier: draws beyond it are counted at it
_LEVELS = 3  # costs compared where lines share a range of compute and no budget


@dataclass(frozen=True)
class Multiplier:
    """The compute multiplier of a line against the reference at cost `at`: above 1 the line needs less.

    No value goes beyond 10,000 either way. `interval` is pointwise (95 %); `extrapolated` where `at` is outside the
    compute both lines have.
    """

    at: float
    value: float
    interval: Interval
    model: ModelName
    extrapolated: bool

    def to_json(self) -> dict[str, object]:
        """Value, interval, cost and model; an end that is not finite is null."""
        return {
            "value": self.value,
            "interval": [end if math.isfinite(end) else None for end in self.interval],
            "at": self.at,
            "model": self.model,
            "extrapolated": self.extrapolated,
        }


@dataclass(frozen=True, eq=False)
class PairOfFrontiers:
    """A line and the reference, for the same vectors [R]."""

    line: LineFrontier
    reference: LineFrontier

    def log_multiplier(self, cost: float) -> Array:
        """log compute multiplier of the line [R]; above zero it needs less than the reference."""
        own, theirs = self.line.loss(cost), self.reference.loss(cost)
        reached = np.maximum(own, theirs)
        gain = np.log(cost) - np.where(own <= theirs, self.line.log_cost(reached), self.reference.log_cost(reached))
        signed = np.where(own <= theirs, 1.0, -1.0) * np.maximum(gain, 0.0)
        multiplier: Array = np.clip(np.nan_to_num(signed, nan=0.0), -_WILDEST, _WILDEST)
        return multiplier

    def difference(self, cost: float) -> Array:
        """Loss of the line − loss of the reference [R], nats."""
        difference: Array = self.line.loss(cost) - self.reference.loss(cost)
        return difference


def multiplier_at(pair: PairOfFrontiers, cost: float, costs: Array, model: ModelName) -> Multiplier:
    """The multiplier at `cost`, from frontiers of the fit (first) and of its draws; `costs` [m] are those shared."""
    logs = pair.log_multiplier(cost)
    at_cost = band(logs[:1], logs[1:, None])
    reach = float(at_cost.pointwise[0])
    low, high = (float(np.exp(np.clip(logs[0] + side, -LARGEST_LOG, LARGEST_LOG))) for side in (-reach, reach))
    inside = costs.min() * (1.0 - SAME_COMPUTE) <= cost <= costs.max() * (1.0 + SAME_COMPUTE)
    return Multiplier(cost, float(np.exp(logs[0])), (low, high), model, not inside)


def shared_costs(points: Points, line: str, reference: str, cost_per_token: CostPerToken) -> Array:
    """Ascending costs [m] at which two lines are compared: the budgets on which both have points, else three levels of
    the range they share.

    Raises:
        FitError: the lines share no compute.
    """
    names = (line, reference)
    spent = points_cost(points, cost_per_token)
    assert points.line is not None
    codes = budget_codes(points)
    if codes is not None:
        both = sorted(set(codes[points.line == line]) & set(codes[points.line == reference]))
        if both:
            here = np.isin(points.line, names)
            return np.array([np.exp(np.log(spent[here & (codes == code)]).mean()) for code in both])
    ranges = [(spent[points.line == name].min(), spent[points.line == name].max()) for name in names]
    low, high = max(first for first, _ in ranges), min(last for _, last in ranges)
    if low > high:
        spans = ", ".join(f"{name} {a:.2g} to {b:.2g}" for name, (a, b) in zip(names, ranges, strict=True))
        raise FitError(
            "the lines share no compute, so nothing is compared at equal compute",
            got=spans,
            allowed="overlapping ranges",
            hint="train the line at a budget the reference has",
        )
    return np.unique(np.geomspace(low, high, _LEVELS))


def points_cost(points: Points, cost_per_token: CostPerToken) -> Array:
    """Training cost of every point [n]: its line's cost per token times its tokens, 6·N·D without one."""
    cost: Array = FLOPS_PER_PARAM_TOKEN * points.params * points.tokens
    for name, per_token in cost_per_token.items():
        if points.line is not None and (here := points.line == name).any():
            cost[here] = np.asarray(per_token(points.params[here]), dtype=float) * points.tokens[here]
    return cost
