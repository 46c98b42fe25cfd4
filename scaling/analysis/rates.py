"""Rates: loss and stability of every line at each learning rate it was tried at.

Where the runs of a line at one shape and number of tokens have at least three rates, they say more than which rate is
best: how the lines compare at their best, each tuned on its own, and how they behave above it. A rule that bounds its
updates should lose little at 2 and 4 times its best rate; one that does not lets the matrices grow. Norms are those
of `training.stability`, losses nats per token.

A difference between two lines is one of means over seeds. Where all their runs match by seed, its 95 % interval is
Student's t of the matched differences, from which what a seed does to both is gone; else Student's t with the seed
noise of all lines.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.data_points import line_name
from scaling.analysis.study import Study
from scaling.errors import FitError
from scaling.laws.comparison import word_for
from scaling.laws.paired_seeds import PairedDifference, paired_difference
from scaling.laws.points import Points
from scaling.laws.seed_noise import SeedNoise
from scaling.laws.simultaneous import VerdictWord
from scaling.rows import RunRow

if TYPE_CHECKING:
    from scaling.sweeps.schema import Claim

MULTIPLES = (1, 2, 4)  # of the best rate: where the low-rank paper's rules part (2602.12429)
LEAST = 3  # rates; with fewer there is no best one between two others
NORMS = ("largest_matrix_norm", "update_norm_over_lr", "factor_norm", "largest_grad_norm")
_LEAST_MATCHED = 3  # runs of equal seed: Student's t of two says nothing
_SAME = 0.01  # rates closer than this (relative) are one


@dataclass(frozen=True)
class Rate:
    """The runs of one line at one rate, over seeds; those that diverged have no loss."""

    lr: float
    rows: tuple[RunRow, ...]

    @cached_property
    def losses(self) -> list[float]:
        """Of the runs that completed."""
        return [row.final_loss for row in self.rows if row.completed]

    @property
    def diverged(self) -> int:
        """Runs that did not complete."""
        return len(self.rows) - len(self.losses)

    @property
    def loss(self) -> float | None:
        """Mean over the runs that completed."""
        return statistics.fmean(self.losses) if self.losses else None

    def median(self, column: str) -> float | None:
        """Of a diagnostic over the runs that have it, diverged or not."""
        values = [value for row in self.rows if (value := row.number(column)) is not None]
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Tuned:
    """One line at one shape and number of tokens; `rates` ascend."""

    line: str
    order: int
    shape: str
    tokens: float
    rates: tuple[Rate, ...]

    @cached_property
    def best(self) -> Rate:
        """The least mean loss among the rates at which nothing diverged; where there is none, among all."""
        sound = [rate for rate in self.rates if not rate.diverged] or [rate for rate in self.rates if rate.losses]
        return min(sound, key=lambda rate: rate.loss or math.inf)

    @property
    def loss(self) -> float:
        """At the best rate."""
        assert self.best.loss is not None
        return self.best.loss

    @property
    def bracketed(self) -> bool:
        """Whether the best rate lies between two others."""
        return self.best not in (self.rates[0], self.rates[-1])

    def at(self, multiple: float) -> Rate | None:
        """The rate that is `multiple` times the best one, where it was tried."""
        asked = multiple * self.best.lr
        return next((rate for rate in self.rates if abs(rate.lr - asked) <= _SAME * asked), None)


@dataclass(frozen=True)
class Pair:
    """Loss of `first` minus that of `second`, each at its best rate; a claim says that it is negative.

    `matched` is the difference over runs of equal seed, where all runs of both lines match.
    """

    first: Tuned
    second: Tuned
    interval: tuple[float, float] | None
    sigma: float | None
    matched: PairedDifference | None = None

    @property
    def difference(self) -> float:
        """Nats per token; negative where `first` is better."""
        return self.first.loss - self.second.loss

    @property
    def sigmas(self) -> float | None:
        """In units of seed noise."""
        return self.difference / self.sigma if self.sigma else None

    @property
    def word(self) -> VerdictWord:
        """The verdict on `first`."""
        return word_for(self.interval)

    @property
    def outcome(self) -> str:
        """Whether a claim that `first` is better holds here."""
        return {"better": "holds", "worse": "reversed"}.get(self.word, "not shown")

    def excludes(self, claimed: float | None) -> bool | None:
        """Whether the interval excludes a difference claimed elsewhere; None without either."""
        if claimed is None or self.interval is None:
            return None
        low, high = self.interval
        return not low <= claimed <= high


def tunings(study: Study) -> list[list[Tuned]]:
    """Tuned lines, the best first, in groups of equal shape and tokens (the most lines first)."""
    unwanted = {item.run for item in study.dropped if item.unwanted}
    rows: dict[tuple[str, float], dict[str, list[RunRow]]] = {}
    for row in study.rows:
        if row.status in ("completed", "diverged") and row.lr and row.id not in unwanted:
            place = (f"d{row.width} L{row.layers}", float(row.tokens))
            rows.setdefault(place, {}).setdefault(line_name(row), []).append(row)
    orders = {line.name: line.order for line in study.lines}
    groups = [
        [
            Tuned(line, orders[line], *place, rates)
            for line, members in lines.items()
            if line in orders and len(rates := _rates(members)) >= LEAST and any(rate.losses for rate in rates)
        ]
        for place, lines in rows.items()
    ]
    return sorted(([*sorted(group, key=lambda t: t.loss)] for group in groups if group), key=len, reverse=True)


def _rates(rows: Sequence[RunRow]) -> tuple[Rate, ...]:
    rates: dict[float, list[RunRow]] = {}
    for row in rows:
        rates.setdefault(row.lr or 0.0, []).append(row)
    return tuple(Rate(lr, tuple(rates[lr])) for lr in sorted(rates))


def pair(first: Tuned, second: Tuned, noise: SeedNoise | None) -> Pair:
    """The difference of two lines at their best rates."""
    sigma = noise.sigma if noise else None
    matched = _matched(first, second)
    if matched is not None:
        return Pair(first, second, matched.interval, sigma, matched)
    if noise is None:
        return Pair(first, second, None, None)
    from scipy.special import stdtrit

    difference = first.loss - second.loss
    error = noise.sigma * math.sqrt(1 / len(first.best.losses) + 1 / len(second.best.losses))
    half = float(stdtrit(noise.freedom, 0.975)) * error
    return Pair(first, second, (difference - half, difference + half), noise.sigma)


def _matched(first: Tuned, second: Tuned) -> PairedDifference | None:
    """Over runs of equal seed at both best rates; None unless all match and there are three or more."""
    rows = [row for tuned in (first, second) for row in tuned.best.rows if row.completed]
    names = [tuned.line for tuned in (first, second) for row in tuned.best.rows if row.completed]
    seeds = [row.seed for row in rows]
    if None in seeds or len(rows) < 2 * _LEAST_MATCHED:
        return None
    tokens = np.array([float(row.tokens) for row in rows])
    losses = np.array([row.final_loss for row in rows])
    points = Points(tokens, tokens, losses, line=np.array(names), seed=np.array([str(seed) for seed in seeds]))
    try:
        paired = paired_difference(points, first.line, second.line)
    except FitError:
        return None
    return paired if 2 * paired.runs == len(rows) else None


def matched_pairs(study: Study) -> list[Pair]:
    """Every two lines at one shape and number of tokens whose runs match by seed."""
    every = (pair(first, second, study.noise) for group in tunings(study) for first, second in combinations(group, 2))
    return [one for one in every if one.matched is not None]


def claimed_pairs(study: Study, group: Sequence[Tuned]) -> list[tuple[Claim, Pair]]:
    """Every pair of lines in `group` that a claim of the study puts in an order."""
    by_line = {tuned.line: tuned for tuned in group}
    return [
        (claim, pair(by_line[better], by_line[than], study.noise))
        for claim in study.settings.claims
        for better, than in combinations(claim.order, 2)
        if better in by_line and than in by_line
    ]
