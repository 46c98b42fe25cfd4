"""Which line, form and size serves T tokens at a loss ℓ for the least money: the decision, with its uncertainty.

    found = decide(candidates, "dense", target_loss=2.31, served_tokens=1e12)
    found.row("low_rank@0.25", "merged", "lifetime").ratio

Every candidate has the same draws of one joint law, row 0 being the fit, so that a ratio of two candidates is of paired
draws. Intervals are 95 %, taken in log and mirrored about the estimate (docs/design.md, "Inference cost"). The models:

- lifetime: the N that makes training plus T served tokens cheapest (Sardana et al. 2401.00448, eq. 2);
- cheapest: the N that is cheapest to train, C_f(ℓ);
- 1.5×, 2×, 4×: the smallest N that reaches ℓ with so many times the larger C_f(ℓ) of the lines, in each draw. Not 1×:
  there dN/dC is infinite for the costlier line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from scaling.inference.cost import Form
from scaling.inference.curve import FloatArray
from scaling.inference.equal_loss import BISECTIONS, PerSize, minimise

Choice = Literal["lifetime", "cheapest", "1.5x", "2x", "4x"]
Word = Literal["cheaper", "dearer", "no difference", "not determined"]
Ends = tuple[float, float]

BUDGET_MULTIPLES: dict[Choice, float] = {"1.5x": 1.5, "2x": 2.0, "4x": 4.0}
CHOICES: tuple[Choice, ...] = ("lifetime", "cheapest", *BUDGET_MULTIPLES)
TOKEN_MULTIPLES = (1.0, 2.0, 5.0, 20.0, 100.0)  # of the optimal tokens, at the same training compute
REACHING_SHARE = 0.95  # of the draws have to reach the loss, else there is no interval
_GRID, _LIFE_GRID = 160, 120  # sizes of one search; of one life along served tokens
_SERVED_PER_TRAINED = np.geomspace(1e-3, 1e7, 61)  # served tokens at which lives are compared, per trained token


class Draws(Protocol):
    """The laws of one line: row 0 is the fit, the others its draws, [k, 1] against sizes [k, m]."""

    @property
    def count(self) -> int:
        """k."""
        ...

    @property
    def fit(self) -> Draws:
        """Row 0 alone."""
        ...

    def loss(self, params: FloatArray, tokens: FloatArray) -> FloatArray:
        """Nats per token [k, m] at N and D."""
        ...

    def tokens_to_reach(self, target: float, params: FloatArray) -> FloatArray:
        """D(N, ℓ) [k, m]; inf where no amount of training is enough."""
        ...


@dataclass(frozen=True, eq=False)
class PowerLaws:
    """E + A/N^α + B/D^β with columns [k, 1] of E, log A, α, log B, β."""

    floor: FloatArray
    log_a: FloatArray
    alpha: FloatArray
    log_b: FloatArray
    beta: FloatArray

    @property
    def count(self) -> int:
        """Laws."""
        return len(self.floor)

    @property
    def fit(self) -> PowerLaws:
        """The first law alone."""
        return PowerLaws(*(column[:1] for column in self._columns))

    def drawn(self) -> PowerLaws:
        """All but the first."""
        return PowerLaws(*(column[1:] for column in self._columns))

    def scalars(self) -> PowerLaws:
        """The first law alone, for N and D of any shape."""
        return PowerLaws(*(column[0, 0] for column in self._columns))

    @property
    def _columns(self) -> tuple[FloatArray, ...]:
        return self.floor, self.log_a, self.alpha, self.log_b, self.beta

    def loss(self, params: FloatArray, tokens: FloatArray) -> FloatArray:
        """Nats per token."""
        data = np.exp(self.log_b - self.beta * np.log(tokens))
        return np.asarray(self.floor + np.exp(self.log_a - self.alpha * np.log(params)) + data)

    def tokens_to_reach(self, target: float, params: FloatArray) -> FloatArray:
        """D(N, ℓ), in closed form."""
        left = target - self.floor - np.exp(self.log_a - self.alpha * np.log(params))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            tokens = np.exp((self.log_b - np.log(left)) / self.beta)
        return np.where(left > 0, tokens, np.inf)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One line served in one form.

    Args:
        laws: of the line; every candidate of a decision has as many, paired.
        train_flops, train_cost: of one training token at N; the second in the unit of the decision.
        serve_cost: of one served token at N, in that unit.
        sizes: the least and the largest N that are looked at.
        rank_ratio: None for a dense line.
    """

    line: str
    form: Form
    rank_ratio: float | None
    laws: Draws
    train_flops: PerSize
    train_cost: PerSize
    serve_cost: PerSize
    sizes: Ends

    @property
    def name(self) -> str:
        """Line and form."""
        return served_name(self.line, self.form)

    def grid(self, points: int = _GRID) -> FloatArray:
        """Sizes [k, m], even in log."""
        return np.tile(np.geomspace(*self.sizes, points), (self.laws.count, 1))

    def total(self, target: float, served: float, params: FloatArray) -> FloatArray:
        """Cost [k, m] of training to `target` and of serving so many tokens."""
        tokens = self.laws.tokens_to_reach(target, params)
        return np.asarray(self.train_cost(params) * tokens + served * self.serve_cost(params))

    def cheapest(self, target: float) -> FloatArray:
        """The N [k, 1] that is cheapest to train to `target`; nan where it is never reached."""
        laws = self.laws
        return minimise(lambda n: self.train_flops(n) * laws.tokens_to_reach(target, n), self.grid())

    def lifetime(self, target: float, served: float) -> FloatArray:
        """The N [k, 1] for which training and serving together are cheapest."""
        return minimise(lambda n: self.total(target, served, n), self.grid())

    def lives(self, losses: FloatArray, served: FloatArray, points: int) -> tuple[FloatArray, FloatArray]:
        """Least total cost of the fit, and its N, over losses [l] and served tokens [t]: two [l, t]."""
        sizes = np.geomspace(*self.sizes, points)
        train, serve = self.train_cost(sizes), self.serve_cost(sizes)
        costs, params = np.empty((len(losses), len(served))), np.empty((len(losses), len(served)))
        for row, target in enumerate(losses):
            spent = train * self.laws.fit.tokens_to_reach(float(target), sizes[None])[0]
            total = spent + np.multiply.outer(served, serve)
            best = total.argmin(axis=1)
            costs[row], params[row] = total[np.arange(len(served)), best], sizes[best]
        return costs, params

    def smallest(self, target: float, budget: FloatArray, cheapest: FloatArray) -> FloatArray:
        """The least N [k, 1] that reaches `target` with `budget` [k, 1] FLOPs, below the cheapest to train."""
        low, high = np.full_like(cheapest, math.log(self.sizes[0])), np.log(cheapest)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            params = np.exp(middle)
            enough = self.train_flops(params) * self.laws.tokens_to_reach(target, params) <= budget
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.exp(high)


@dataclass(frozen=True)
class Row:
    """One candidate's model of one choice.

    Args:
        params, tokens, loss: N in the law's count, training tokens D, nats per token. None where ℓ is never reached.
        train_cost, serve_cost: in the decision's unit; the second of all served tokens.
        ratio, ratio_interval: total cost over that of the reference of the same choice; None where the draws do not
            determine it.
        serve_ratio, serve_ratio_interval: the same of a served token.
    """

    line: str
    form: Form
    rank_ratio: float | None
    choice: Choice
    params: float | None
    tokens: float | None
    loss: float | None
    train_cost: float | None
    serve_cost: float | None
    ratio: float | None
    ratio_interval: Ends | None
    serve_ratio: float | None
    serve_ratio_interval: Ends | None

    @property
    def name(self) -> str:
        """Line and form."""
        return served_name(self.line, self.form)

    @property
    def total_cost(self) -> float | None:
        """Training and serving."""
        if self.train_cost is None or self.serve_cost is None:
            return None
        return self.train_cost + self.serve_cost

    @property
    def same(self) -> bool | None:
        """Whether the interval of the ratio contains 1; None without one."""
        if self.ratio_interval is None:
            return None
        return self.ratio_interval[0] <= 1.0 <= self.ratio_interval[1]

    @property
    def word(self) -> Word:
        """What the interval of the ratio of total costs says."""
        if self.ratio_interval is None:
            return "not determined"
        low, high = self.ratio_interval
        return "cheaper" if high < 1.0 else "dearer" if low > 1.0 else "no difference"


@dataclass(frozen=True)
class BreakEven:
    """Served tokens at which a candidate costs as much as the reference.

    `interval` holds those at which the two are not told apart; an end that is not found is None. `cheaper_below` is
    the line that is cheaper for fewer tokens.
    """

    line: str
    form: Form
    against: str
    served_tokens: float
    interval: tuple[float | None, float | None]
    cheaper_below: str


@dataclass(frozen=True)
class OverTraining:
    """A model on `multiple` times the optimal tokens of the training compute C_f(ℓ), and what that changes.

    `serve_ratio` is the cost of a served token over that of the optimal model.
    """

    line: str
    form: Form
    multiple: float
    params: float
    tokens: float
    loss: float
    loss_above: float
    serve_ratio: float


@dataclass(frozen=True)
class RankChoice:
    """One rank ratio (1: dense) among all: loss at equal training compute, cost at equal loss, and chances.

    Args:
        loss_difference, loss_interval: from the reference at the reference's C_f(ℓ), nats per token.
        lowest_loss_share: share of the draws in which this ratio has the lowest loss there.
        cheapest_share: share in which its best form has the least total cost at ℓ.
    """

    line: str
    form: Form
    rank_ratio: float
    loss_difference: float
    loss_interval: Ends
    lowest_loss_share: float
    serve_ratio: float | None
    serve_ratio_interval: Ends | None
    ratio: float | None
    ratio_interval: Ends | None
    cheapest_share: float


@dataclass(frozen=True, eq=False)
class Decision:
    """Every candidate at one loss and one number of served tokens."""

    candidates: tuple[Candidate, ...]
    reference: str
    target_loss: float
    served_tokens: float

    @cached_property
    def base(self) -> Candidate:
        """What ratios are relative to: the reference as it was trained."""
        return next(one for one in self.candidates if one.line == self.reference)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every candidate, every choice."""
        return tuple(self._row(one, choice) for choice in CHOICES for one in self.candidates)

    def row(self, line: str, form: Form, choice: Choice) -> Row:
        """One of `rows`."""
        return next(row for row in self.rows if (row.line, row.form, row.choice) == (line, form, choice))

    @cached_property
    def best(self) -> tuple[Row, ...]:
        """The cheapest form of every line that reaches the loss, over its life; the reference first."""
        rows = [row for row in self.rows if row.choice == "lifetime" and row.total_cost is not None]
        names = dict.fromkeys([self.reference, *(row.line for row in rows)])
        return tuple(
            min((row for row in rows if row.line == name), key=lambda row: row.total_cost or math.inf)
            for name in names
            if any(row.line == name for row in rows)
        )

    @property
    def most_compute(self) -> float:
        """The largest training FLOPs of a model of `best` or of C_f(ℓ) of the reference."""
        trained = [
            float(self._candidate(row).train_flops(np.array([row.params]))[0]) * (row.tokens or 0.0)
            for row in self.best
        ]
        return max(float(self.compute[0, 0]), *trained)

    @cached_property
    def compute(self) -> FloatArray:
        """C_f(ℓ) [k, 1] of the reference, FLOPs; nan where it never reaches ℓ."""
        return self._compute[self.reference]

    @cached_property
    def break_even(self) -> tuple[BreakEven, ...]:
        """Where the best form of every line costs as much as the reference; nothing for lines that never do."""
        return tuple(point for row in self.best for point in self._break_even(row))

    @cached_property
    def over_training(self) -> tuple[OverTraining, ...]:
        """What more tokens on a smaller model cost in loss and save in serving, at the same training compute."""
        return tuple(one for row in self.best for one in self._over_trained(self._candidate(row)))

    @cached_property
    def ranks(self) -> tuple[RankChoice, ...]:
        """Rank as a choice; empty where fewer than two ratios were trained beside the reference."""
        rows = [row for row in self.best if row.line == self.reference or row.rank_ratio is not None]
        if len(rows) < 3:
            return ()
        compute = float(self.compute[0, 0])
        losses = np.stack([least_losses(self._candidate(row), compute)[:, 0] for row in rows])
        totals = np.stack([self._totals(self._candidate(row), "lifetime")[:, 0] for row in rows])
        lowest, least = (_shares(values[:, 1:]) for values in (losses, totals))
        chances = zip(rows, losses, lowest, least, strict=True)
        return tuple(_rank_choice(row, own - losses[0], low, cheap) for row, own, low, cheap in chances)

    def life(self, candidate: Candidate, served: FloatArray) -> FloatArray:
        """Least total cost [k, T] at every number of served tokens [T]."""
        sizes = candidate.grid(_LIFE_GRID)
        train = candidate.train_cost(sizes) * candidate.laws.tokens_to_reach(self.target_loss, sizes)
        serve = candidate.serve_cost(sizes[:1])
        return np.stack([np.min(train + tokens * serve, axis=1) for tokens in served], axis=1)

    @cached_property
    def served_grid(self) -> FloatArray:
        """Served tokens [T] along which lives are compared."""
        params = self._cheapest[self.reference]
        tokens = self.base.laws.tokens_to_reach(self.target_loss, params)[0, 0]
        return np.asarray(_SERVED_PER_TRAINED * tokens)

    @cached_property
    def _base_life(self) -> FloatArray:
        return self.life(self.base, self.served_grid)

    def life_of(self, row: Row) -> FloatArray:
        """Total cost [T] of a row's candidate along `served_grid`, by the fit."""
        return np.asarray(self.life(self._candidate(row), self.served_grid)[0])

    def ratio_along(self, row: Row) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Total cost of a row's candidate over the reference's along `served_grid` [T]: value, low, high."""
        with np.errstate(invalid="ignore"):
            logs = np.log(self.life(self._candidate(row), self.served_grid)) - np.log(self._base_life)
        ends = [_interval(column) or (math.nan, math.nan) for column in logs.T]
        low, high = np.array(ends).T
        return np.exp(logs[0]), low, high

    def _candidate(self, row: Row) -> Candidate:
        return next(one for one in self.candidates if (one.line, one.form) == (row.line, row.form))

    @cached_property
    def _by_line(self) -> dict[str, Candidate]:
        return {one.line: one for one in reversed(self.candidates)}

    @cached_property
    def _cheapest(self) -> dict[str, FloatArray]:
        """N of C_f(ℓ) [k, 1], by line."""
        return {name: one.cheapest(self.target_loss) for name, one in self._by_line.items()}

    @cached_property
    def _compute(self) -> dict[str, FloatArray]:
        """C_f(ℓ) [k, 1], by line."""
        found = {}
        for name, one in self._by_line.items():
            params = self._cheapest[name]
            found[name] = one.train_flops(params) * one.laws.tokens_to_reach(self.target_loss, params)
        return found

    @cached_property
    def _largest_compute(self) -> FloatArray:
        """The larger C_f(ℓ) [k, 1] of the lines that reach ℓ."""
        computes = np.stack(list(self._compute.values()))
        return np.asarray(np.max(np.where(np.isnan(computes), -np.inf, computes), axis=0))

    def _params(self, candidate: Candidate, choice: Choice) -> FloatArray:
        if choice == "lifetime":
            return candidate.lifetime(self.target_loss, self.served_tokens)
        cheapest = self._cheapest[candidate.line]
        if choice == "cheapest":
            return cheapest
        return candidate.smallest(self.target_loss, BUDGET_MULTIPLES[choice] * self._largest_compute, cheapest)

    @cached_property
    def _chosen(self) -> dict[tuple[str, str, Choice], FloatArray]:
        return {(one.line, one.form, c): self._params(one, c) for one in self.candidates for c in CHOICES}

    def _totals(self, candidate: Candidate, choice: Choice) -> FloatArray:
        params = self._chosen[candidate.line, candidate.form, choice]
        totals = candidate.total(self.target_loss, self.served_tokens, params)
        return np.where(np.isfinite(params), totals, np.inf)

    def _row(self, candidate: Candidate, choice: Choice) -> Row:
        named = (candidate.line, candidate.form, candidate.rank_ratio, choice)
        params = self._chosen[candidate.line, candidate.form, choice]
        if not np.isfinite(params[0, 0]):
            return Row(*named, *([None] * 9))
        tokens = candidate.laws.tokens_to_reach(self.target_loss, params)
        base = self._chosen[self.reference, self.base.form, choice]
        with np.errstate(invalid="ignore"):
            total = np.log(self._totals(candidate, choice)) - np.log(self._totals(self.base, choice))
            serve = np.log(candidate.serve_cost(params)) - np.log(self.base.serve_cost(base))
        interval, serve_interval = _interval(total[:, 0]), _interval(serve[:, 0])
        return Row(
            *named,
            params=float(params[0, 0]),
            tokens=float(tokens[0, 0]),
            loss=float(candidate.laws.loss(params, tokens)[0, 0]),
            train_cost=float((candidate.train_cost(params) * tokens)[0, 0]),
            serve_cost=self.served_tokens * float(candidate.serve_cost(params)[0, 0]),
            ratio=None if interval is None else float(np.exp(total[0, 0])),
            ratio_interval=interval,
            serve_ratio=None if serve_interval is None else float(np.exp(serve[0, 0])),
            serve_ratio_interval=serve_interval,
        )

    def _break_even(self, row: Row) -> Iterator[BreakEven]:
        if row.line == self.reference or row.ratio_interval is None:
            return
        served = np.log(self.served_grid)
        ratio, low, high = self.ratio_along(row)
        logs = np.log(ratio)
        for i in map(int, np.flatnonzero(np.signbit(logs[1:]) != np.signbit(logs[:-1]))):
            share = logs[i] / (logs[i] - logs[i + 1])
            at = float(np.exp(served[i] + share * (served[i + 1] - served[i])))
            same = (low <= 1.0) & (high >= 1.0)
            yield BreakEven(
                row.line,
                row.form,
                self.reference,
                at,
                (_end(self.served_grid, same, i, -1), _end(self.served_grid, same, i + 1, 1)),
                row.line if logs[i] < 0 else self.reference,
            )

    def _over_trained(self, candidate: Candidate) -> Iterator[OverTraining]:
        best, compute = self._cheapest[candidate.line][:1], self._compute[candidate.line][:1]
        optimal = float((compute / candidate.train_flops(best))[0, 0])
        base = float(candidate.serve_cost(best)[0, 0])
        for multiple in TOKEN_MULTIPLES:
            tokens = multiple * optimal
            low, high = np.log(candidate.sizes[0]), np.log(best)
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                over = candidate.train_flops(np.exp(middle)) * tokens > compute
                low, high = np.where(over, low, middle), np.where(over, middle, high)
            params = np.exp(low) if multiple > 1 else best
            loss = float(candidate.laws.fit.loss(params, np.full_like(params, tokens))[0, 0])
            yield OverTraining(
                candidate.line,
                candidate.form,
                multiple,
                float(params[0, 0]),
                tokens,
                loss,
                loss - self.target_loss,
                float(candidate.serve_cost(params)[0, 0]) / base,
            )


def served_name(line: str, form: Form) -> str:
    """A line and how it is served, where there are two ways."""
    return line if form == "dense" else f"{line} {form}"


def decide(candidates: Sequence[Candidate], reference: str, *, target_loss: float, served_tokens: float) -> Decision:
    """The decision among `candidates`, the reference's own form first among its rows.

    Args:
        candidates: every line in every form, with paired draws.
        reference: the line that others are compared with.
        target_loss: nats per token.
        served_tokens: over the life of the model, prompts included.
    """
    assert any(one.line == reference for one in candidates)
    return Decision(tuple(candidates), reference, target_loss, served_tokens)


def least_losses(candidate: Candidate, compute: float) -> FloatArray:
    """Nats per token [k, 1] that a candidate reaches with `compute` training FLOPs."""
    laws, flops = candidate.laws, candidate.train_flops
    best = minimise(lambda n: laws.loss(n, compute / flops(n)), candidate.grid())
    return laws.loss(best, compute / flops(best))


def least_loss(candidate: Candidate, compute: float) -> float:
    """The same of its fit."""
    return float(least_losses(replace(candidate, laws=candidate.laws.fit), compute)[0, 0])


def _rank_choice(row: Row, difference: FloatArray, lowest: float, cheapest: float) -> RankChoice:
    value = float(difference[0])
    low, high = (float(end) for end in np.quantile(difference[1:], (0.025, 0.975)))
    return RankChoice(
        row.line,
        row.form,
        1.0 if row.rank_ratio is None else row.rank_ratio,
        value,
        (2 * value - high, 2 * value - low),
        lowest,
        row.serve_ratio,
        row.serve_ratio_interval,
        row.ratio,
        row.ratio_interval,
        cheapest,
    )


def _shares(values: FloatArray) -> list[float]:
    """In which share of the draws each row of `values` [rows, draws] is the least."""
    wins = np.bincount(np.argmin(values, axis=0), minlength=len(values))
    return [float(share) for share in wins / values.shape[1]]


def _interval(logs: FloatArray) -> Ends | None:
    """The ratio's interval from log ratios [k], the first of the fit: quantiles of the draws, mirrored about it.

    None where there are no draws, or too many of them never reach the loss.
    """
    drawn = logs[1:]
    known = drawn[np.isfinite(drawn)]
    if not len(drawn) or len(known) < REACHING_SHARE * len(drawn) or not np.isfinite(logs[0]):
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(np.exp(2 * logs[0] - high)), float(np.exp(2 * logs[0] - low))


def _end(served: FloatArray, same: NDArray[np.bool_], start: int, step: int) -> float | None:
    """The last of the served tokens from `start` on at which nothing tells the two apart; None if it is the end."""
    if not same[start]:
        return float(served[start])
    i = start
    while 0 <= i < len(served) and same[i]:
        i += step
    return None if not 0 <= i < len(served) else float(served[i])
