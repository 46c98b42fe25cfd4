"""Lines compared in one joint law: compute multipliers with a simultaneous band, and the word it allows.

    made = compare_lines(points, "dense")             # Points with a column `line`
    made.lines[0].verdict.word, made.lines[0].headline

At compute C, ℓ is the larger of the two frontier losses; the multiplier of a line is C over the compute at which the
better line reaches ℓ, inverted for the worse. M3 (A, B, α, β per line, E shared) gives the verdict over all shared
budgets; M2 stands beside it at their geometric mean, as "if the lines share exponents". Draws carry the parts of the
noise (`noise_parts`): what the lines share cancels, what belongs to a line's budget does not. A line with too few
budgets for a law of its own gets M1 with the reference, which is an assumption and named as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scaling.errors import FitError
from scaling.laws.draws import Draws, Interval
from scaling.laws.fitting import Fit
from scaling.laws.forms import CHINCHILLA
from scaling.laws.frontier import FlopsPerToken
from scaling.laws.gls_tests import NestedTest
from scaling.laws.joint_models import ModelName, fit_model, model_tests
from scaling.laws.line_frontiers import LineFrontier, line_frontier
from scaling.laws.noise_groups import budget_codes
from scaling.laws.noise_parts import NoiseParts, noise_parts, part_draws
from scaling.laws.points import FLOPS_PER_PARAM_TOKEN, Array, Points
from scaling.laws.simultaneous import DEFAULT_MARGIN, Band, BandVerdict, band
from scaling.laws.solver.identifiability import refuse_unidentified

CostPerToken = Mapping[str, FlopsPerToken]

_WILDEST = float(np.log(1e4))  # of a multiplier: draws beyond it are counted at it
_LARGEST_LOG = 700.0  # what a float holds
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
class JointFit:
    """One nested model; the parts of its noise and its draws are made when they are asked for."""

    model: ModelName
    fit: Fit
    count: int
    seed: int

    @cached_property
    def parts(self) -> NoiseParts:
        """Of the noise of `fit`."""
        return noise_parts(self.fit)

    @cached_property
    def draws(self) -> Draws:
        """`count` refits that carry the parts."""
        return part_draws(self.fit, self.parts, draws=self.count, seed=self.seed)

    def pair(self, line: str, reference: str, costs: CostPerToken) -> PairOfFrontiers:
        """Both frontiers, of the fit (first) and of every draw."""
        vectors = np.concatenate([self.fit.vector[None], self.draws.vectors])
        mine, theirs = (line_frontier(self.fit, name, vectors, costs.get(name)) for name in (line, reference))
        return PairOfFrontiers(mine, theirs)


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
        return _multiplier(self._pair, cost, self.costs, self.joint.model)

    def shared_exponents_at(self, cost: float) -> Multiplier | None:
        """The same from M2: at another cost than the centre it holds only if the lines do share exponents."""
        if self.beside is None:
            return None
        pair = self.beside.pair(self.line, self.reference, self.cost_per_token)
        return _multiplier(pair, cost, self.costs, self.beside.model)

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
        return _compare(self.line, self.joint, self.beside, self.reference, cost_per_token, self.verdict.margin)

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
    return _plain_ends(*(float(np.exp(end)) if abs(end) < _LARGEST_LOG else math.inf for end in (low, high)))


def _plain_ends(low: float, high: float) -> list[float | None]:
    return [float(end) if math.isfinite(end) else None for end in (low, high)]


@dataclass(frozen=True, eq=False)
class JointComparison:
    """Every line against the reference.

    Attributes:
        models: the nested models that could be fitted over the lines with enough budgets.
        tests: each of them in the next, with its power. None selects anything.
        noise: the parts of the noise of the largest model.
        left_out: why a line is not compared, by line.
    """

    reference: str
    lines: tuple[LineComparison, ...]
    models: Mapping[ModelName, JointFit]
    tests: tuple[NestedTest, ...]
    noise: NoiseParts
    left_out: Mapping[str, str]

    def line(self, name: str) -> LineComparison:
        """The comparison of one line.

        Raises:
            FitError: it is not compared; the message says why.
        """
        for compared in self.lines:
            if compared.line == name:
                return compared
        reason = self.left_out.get(name, "there is no such line")
        raise FitError("this line is not compared", got=f"{name}: {reason}", allowed=", ".join(self.left_out) or None)


def compare_lines(
    points: Points,
    reference: str,
    *,
    objective: str = "log_mse",
    delta: float | None = None,
    draws: int = 1000,
    seed: int = 0,
    cost_per_token: CostPerToken | None = None,
    margin: float = DEFAULT_MARGIN,
) -> JointComparison:
    """Compares every line with `reference`.

    Args:
        points: with a column `line`; `budget` gives the budgets, `cell` and `seed` match runs of different lines.
        reference: the line that the others are compared with.
        objective, delta: of the fits; least squares in log loss is what the noise parts assume.
        draws: refits behind every interval. seed: of them.
        cost_per_token: cost of one training token at sizes N [m], by line; a line without one counts 6·N FLOPs.
        margin: relative difference of compute within which lines are called equivalent.

    Raises:
        FitError: no line can be compared; the message says why.
    """
    lines = points.lines()
    if reference not in lines or len(lines) < 2:
        raise FitError("lines are compared with a reference line", got=reference, allowed=", ".join(lines))
    costs = cost_per_token or {}
    settings = _Settings(objective, delta, draws, seed)
    able = [name for name, own in lines.items() if _has_law(own)]
    separate = reference in able and len(able) > 1
    together = able if separate else list(lines)
    names: tuple[ModelName, ...] = ("M0", "M1", "M2", "M3") if separate else ("M0", "M1")
    models = {name: settings.model(_of_lines(points, together), name) for name in names}
    largest, beside = models[names[-1]], models.get("M2")
    compared, left_out = [], {}
    for name in lines:
        if name == reference:
            continue
        try:
            if name in together:
                compared.append(_compare(name, largest, beside, reference, costs, margin))
            else:
                own = settings.model(_of_lines(points, [reference, name]), "M1")
                compared.append(_compare(name, own, None, reference, costs, margin))
        except FitError as error:
            left_out[name] = str(error)
    if not compared:
        raise FitError("no line can be compared", got="; ".join(f"{name}: {why}" for name, why in left_out.items()))
    tests = model_tests({name: made.fit for name, made in models.items()}, largest.parts, reference)
    return JointComparison(reference, tuple(compared), models, tests, largest.parts, left_out)


@dataclass(frozen=True)
class _Settings:
    objective: str
    delta: float | None
    draws: int
    seed: int

    def model(self, points: Points, model: ModelName) -> JointFit:
        made = fit_model(points, model, objective=self.objective, delta=self.delta)
        return JointFit(model, made, self.draws, self.seed)


def _compare(
    line: str,
    joint: JointFit,
    beside: JointFit | None,
    reference: str,
    cost_per_token: CostPerToken,
    margin: float,
) -> LineComparison:
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
        headline=_multiplier(pair, centre, costs, joint.model),
        shared_exponents=_multiplier(same, centre, costs, "M2") if same else None,
        joint=joint,
        beside=beside,
        cost_per_token=cost_per_token,
    )


def _assumption(points: Points, line: str, reference: str) -> str:
    lines = points.lines()
    short = [name for name in (line, reference) if not _has_law(lines[name])] or [line, reference]
    return (
        f"too few budgets for a law of {' and of '.join(short)}: assumed is that the lines differ only by a constant "
        "factor on N (M1)"
    )


def _multiplier(pair: PairOfFrontiers, cost: float, costs: Array, model: ModelName) -> Multiplier:
    logs = pair.log_multiplier(cost)
    made = band(logs[:1], logs[1:, None])
    reach = float(made.pointwise[0])
    low, high = (float(np.exp(np.clip(logs[0] + side, -_LARGEST_LOG, _LARGEST_LOG))) for side in (-reach, reach))
    inside = costs.min() / 1.02 <= cost <= costs.max() * 1.02
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


def _has_law(points: Points) -> bool:
    try:
        refuse_unidentified(CHINCHILLA, points)
    except FitError:
        return False
    return len(points) >= len(CHINCHILLA.parameter_names)


def _of_lines(points: Points, names: list[str]) -> Points:
    assert points.line is not None
    return points.select(np.isin(points.line, names))
