"""One line against a reference under a joint law: the multiplier, the band over budgets and its verdict.

A comparison keeps the fit and its draws, so that it can be asked at any cost and on any cost axis without refitting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scaling.errors import FitError
from scaling.laws.chosen_again import TunedRuns, chosen_again
from scaling.laws.compute_multiplier import (
    LARGEST_LOG,
    CostPerToken,
    Multiplier,
    PairOfFrontiers,
    multiplier_at,
    shared_costs,
)
from scaling.laws.draws import Draws
from scaling.laws.fitting import Fit
from scaling.laws.forms import CHINCHILLA
from scaling.laws.joint_models import ModelName
from scaling.laws.line_frontiers import line_frontier
from scaling.laws.noise_parts import NoiseParts, noise_parts, part_draws
from scaling.laws.points import Array, Points
from scaling.laws.simultaneous import Band, BandVerdict, band
from scaling.laws.solver.identifiability import refuse_unidentified


@dataclass(frozen=True, eq=False)
class JointFit:
    """One nested model; the parts of its noise and its draws are made when they are asked for.

    Attributes:
        count, seed: of the draws.
        tuned: all runs of the cells, where settings were tuned over: every draw chooses again.
    """

    model: ModelName
    fit: Fit
    count: int
    seed: int
    tuned: TunedRuns | None = None

    @cached_property
    def parts(self) -> NoiseParts:
        """Of the noise of `fit`."""
        return noise_parts(self.fit)

    @cached_property
    def draws(self) -> Draws:
        """`count` refits that carry the parts."""
        noise = None
        if self.tuned is not None:
            noise = chosen_again(self.tuned, self.fit.points, self.parts, draws=self.count, seed=self.seed)
        return part_draws(self.fit, self.parts, draws=self.count, seed=self.seed, noise=noise)

    def pair(self, line: str, reference: str, costs: CostPerToken) -> PairOfFrontiers:
        """Both frontiers, of the fit (first) and of every draw."""
        vectors = np.concatenate([self.fit.vector[None], self.draws.vectors])
        mine, theirs = (line_frontier(self.fit, name, vectors, costs.get(name)) for name in (line, reference))
        return PairOfFrontiers(mine, theirs)


@dataclass(frozen=True, eq=False)
class LineComparison:
    """One line against the reference.

    Attributes:
        model: M3, or M1 for a line with too few budgets; `assumption` then says what is assumed.
        costs: the shared budgets [m] on the axis of the comparison (FLOPs unless costs per token were given).
        verdict: from the simultaneous band of log multipliers over `costs`.
        differences: loss − loss of the reference at `costs`, nats.
        headline: the multiplier at the geometric mean of `costs`.
        shared_exponents: the same from M2, "if the lines share exponents"; None under M1.
        joint, beside: the fits and draws of `model` and of M2.
    """

    line: str
    reference: str
    model: ModelName
    assumption: str | None
    costs: Array
    verdict: BandVerdict
    differences: Band
    headline: Multiplier
    shared_exponents: Multiplier | None
    joint: JointFit
    beside: JointFit | None
    cost_per_token: CostPerToken

    @cached_property
    def _pair(self) -> PairOfFrontiers:
        return self.joint.pair(self.line, self.reference, self.cost_per_token)

    @property
    def unreliable(self) -> bool:
        """More than 5 % of the draws failed or ended at a bound."""
        return self.joint.draws.unreliable

    def multiplier(self, cost: float) -> Multiplier:
        """The multiplier at any cost, with its pointwise interval."""
        return multiplier_at(self._pair, cost, self.costs, self.joint.model)

    def shared_exponents_at(self, cost: float) -> Multiplier | None:
        """The same from M2: at another cost than the centre it holds only if the lines do share exponents."""
        if self.beside is None:
            return None
        pair = self.beside.pair(self.line, self.reference, self.cost_per_token)
        return multiplier_at(pair, cost, self.costs, self.beside.model)

    @property
    def multipliers(self) -> tuple[Multiplier, ...]:
        """The multiplier at every shared budget."""
        return tuple(self.multiplier(float(cost)) for cost in self.costs)

    def on_axis(self, cost_per_token: CostPerToken) -> LineComparison:
        """The same draws compared at equal cost of another kind (exact FLOPs, device seconds), by the cost of one
        training token at sizes N [m] of each line.

        Raises:
            FitError: the lines share no cost on that axis.
        """
        return compare_line(self.line, self.joint, self.beside, self.reference, cost_per_token, self.verdict.margin)

    def to_json(self) -> dict[str, object]:
        """The comparison for a document: the headline, the multiplier at every budget, the verdict."""
        verdict, at = self.verdict, self.multipliers
        margin = verdict.smallest_margin
        return {
            "line": self.line,
            "reference": self.reference,
            "model": self.model,
            "assumption": self.assumption,
            "compute_multiplier": self.headline.to_json(),
            "if_exponents_are_shared": self.shared_exponents.to_json() if self.shared_exponents else None,
            "verdict": {
                "word": verdict.word,
                "margin": verdict.margin,
                "smallest_margin": margin if math.isfinite(margin) else None,
                "large": verdict.large,
                "simultaneous": [
                    {"at": float(cost), "value": m.value, "interval": _ends(low, high), "word": word}
                    for cost, m, low, high, word in zip(
                        self.costs, at, verdict.band.lower, verdict.band.upper, verdict.words, strict=True
                    )
                ],
            },
            "loss_differences": [
                {"at": float(cost), "nats": float(value), "interval": _plain_ends(low, high)}
                for cost, value, low, high in zip(
                    self.costs,
                    self.differences.estimate,
                    self.differences.lower,
                    self.differences.upper,
                    strict=True,
                )
            ],
        }


def _ends(low: float, high: float) -> list[float | None]:
    """Ends of a band of log multipliers, as multipliers."""
    return _plain_ends(*(float(np.exp(end)) if abs(end) < LARGEST_LOG else math.inf for end in (low, high)))


def _plain_ends(low: float, high: float) -> list[float | None]:
    return [float(end) if math.isfinite(end) else None for end in (low, high)]


def compare_line(
    line: str,
    joint: JointFit,
    beside: JointFit | None,
    reference: str,
    cost_per_token: CostPerToken,
    margin: float,
) -> LineComparison:
    """Compares `line` with `reference` under `joint`, and under `beside` (M2) at the centre.

    Raises:
        FitError: the lines share no cost.
    """
    points = joint.fit.points
    costs = shared_costs(points, line, reference, cost_per_token)
    pair = joint.pair(line, reference, cost_per_token)
    logs = np.stack([pair.log_multiplier(float(cost)) for cost in costs], axis=1)
    losses = np.stack([pair.difference(float(cost)) for cost in costs], axis=1)
    centre = float(np.exp(np.log(costs).mean()))
    same = beside.pair(line, reference, cost_per_token) if beside else None
    return LineComparison(
        line=line,
        reference=reference,
        model=joint.model,
        assumption=None if joint.model == "M3" else _assumption(points, line, reference),
        costs=costs,
        verdict=BandVerdict(band(logs[0], logs[1:]), margin),
        differences=band(losses[0], losses[1:]),
        headline=multiplier_at(pair, centre, costs, joint.model),
        shared_exponents=multiplier_at(same, centre, costs, "M2") if same else None,
        joint=joint,
        beside=beside,
        cost_per_token=cost_per_token,
    )


def _assumption(points: Points, line: str, reference: str) -> str:
    lines = points.lines()
    short = [name for name in (line, reference) if not has_law(lines[name])] or [line, reference]
    return (
        f"too few budgets for a law of {' and of '.join(short)}: assumed is that the lines differ only by a constant "
        "factor on N (M1)"
    )


def has_law(points: Points) -> bool:
    """Whether the points of one line determine A, B, α and β of their own."""
    try:
        refuse_unidentified(CHINCHILLA, points)
    except FitError:
        return False
    return len(points) >= len(CHINCHILLA.parameter_names)
