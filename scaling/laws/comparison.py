"""Is one line better than another, and by what measure?

"Better" takes two things: the interval of the difference excludes zero, and the difference exceeds twice the seed
noise. A verdict names its axis, because a line that wins per exact FLOP may lose per device second. Differences are
a − b in nats, so a negative one favours a.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scaling import checks
from scaling.checks import Check
from scaling.errors import FitError
from scaling.laws.draws import Draws, Interval, Kind, draw_cases, draw_residuals, percentile_interval, refit
from scaling.laws.fitting import Fit
from scaling.laws.frontier import Frontier
from scaling.laws.points import Array, Indices

Axis = Literal["exact", "6ND", "device_seconds"]
AXES = {"exact": "exact FLOPs", "6ND": "6·N·D FLOPs", "device_seconds": "device seconds"}  # as people read them
Word = Literal["better", "worse", "no difference shown", "noise unknown"]


@dataclass(frozen=True)
class Verdict:
    """Loss of line a − loss of line b on one axis at one cost."""

    axis: Axis
    cost: float
    difference_nats: float
    interval: Interval
    sigma_seed: float | None
    paired: bool
    word: Word

    @property
    def sigmas(self) -> float | None:
        """The difference in units of seed noise."""
        return None if not self.sigma_seed else self.difference_nats / self.sigma_seed


def judge(
    difference: float, draws: Array, *, axis: Axis, cost: float, sigma_seed: float | None, paired: bool = False
) -> Verdict:
    """The verdict on a difference (a − b, nats) with its draws."""
    interval = percentile_interval(draws)
    word = word_for(difference, interval, sigma_seed)
    return Verdict(axis, cost, difference, interval, sigma_seed, paired, word)


def word_for(difference: float, interval: Interval, sigma_seed: float | None) -> Word:
    """What may be said of a difference (a − b, nats) with its 95 % interval (NaN without draws) and the seed noise."""
    if not (interval[0] > 0 or interval[1] < 0):
        return "no difference shown"
    if not sigma_seed:
        return "noise unknown"
    if abs(difference) <= 2.0 * sigma_seed:
        return "no difference shown"
    return "better" if difference < 0 else "worse"


def compare(a: Frontier, b: Frontier, compute: float, *, axis: Axis, sigma_seed: float | None, paired: bool) -> Verdict:
    """Line a against line b at equal compute; `paired` says that the frontiers' draws come from `paired_bootstrap`."""
    left, right = a.loss_draws(compute), b.loss_draws(compute)
    count = min(len(left), len(right))
    difference = a.at(compute).loss - b.at(compute).loss
    return judge(
        difference, left[:count] - right[:count], axis=axis, cost=compute, sigma_seed=sigma_seed, paired=paired
    )


def verdict_checks(verdicts: Sequence[Verdict]) -> tuple[Check, ...]:
    """`verdict_depends_on_cost` where the axes disagree, `seed_noise_unknown` where a verdict has no scale."""
    found = []
    words = {verdict.axis: verdict.word for verdict in verdicts}
    if len(set(words.values())) > 1:
        told = "; ".join(f"at equal {AXES[axis]} {word}" for axis, word in words.items())
        message = f"The verdict depends on what is held equal: {told}."
        found.append(checks.VERDICT_DEPENDS_ON_COST(message))
    if any(word == "noise unknown" for word in words.values()):
        message = "no cell was trained with several seeds, so no difference can be called better or worse"
        found.append(checks.SEED_NOISE_UNKNOWN(message))
    return tuple(found)


def paired_bootstrap(
    a: Fit, b: Fit, *, draws: int = 1000, seed: int = 0, kind: Kind = "residuals", noise: float | None = None
) -> tuple[Draws, Draws] | None:
    """Draws of two lines that pair their cells: draw k takes the same cells (or residuals of the same cells) in both.

    What the lines share (the order of the data, the budget, the shape) then leaves their difference. Cells are matched
    by `cell` and seed; None where the designs do not pair: other cells, or points drawn in clusters. Only draws that
    succeeded in both are kept.

    Raises:
        FitError: a fit has no draws to give.
    """
    if draws < 1:
        raise FitError("paired draws compare two lines draw by draw", got=draws, allowed="at least 1")
    order = _matched(a, b)
    if order is None:
        return None
    first, second = np.random.SeedSequence(seed).generate_state(2)
    own = np.random.default_rng(second).normal(size=(2, draws, len(order)))
    shared = float(np.corrcoef(a.residuals[order], b.residuals)[0, 1])
    common = np.nan_to_num(shared) * own[0][:, order] + np.sqrt(1.0 - np.nan_to_num(shared) ** 2) * own[1]
    left = _draw(a, int(first), draws, kind, noise, np.arange(len(order)), own[0])
    right = _draw(b, int(first), draws, kind, noise, order, common)
    both = np.intersect1d(left.numbers, right.numbers)
    return _only(left, both), _only(right, both)


def _matched(a: Fit, b: Fit) -> Indices | None:
    """For each point of b, the row of a's point in the same cell (and seed); None unless that is one to one."""
    left, right = _keys(a), _keys(b)
    if not left or sorted(left) != sorted(right) or len(set(left)) != len(left):
        return None
    rows = {key: i for i, key in enumerate(left)}
    return np.array([rows[key] for key in right], dtype=np.intp)


def _keys(fit: Fit) -> list[tuple[str, str]]:
    cell, seed = fit.points.cell, fit.points.seed
    if cell is None or fit.points.trunk is not None:
        return []
    return list(zip(cell.tolist(), seed.tolist() if seed is not None else [""] * len(cell), strict=True))


def _draw(fit: Fit, seed: int, draws: int, kind: Kind, noise: float | None, order: Indices, smooth: Array) -> Draws:
    """Draws of one line; point i of this line is drawn as point order[i] of the other."""
    rng = np.random.default_rng(seed)
    if kind == "cases":
        loss, weight = draw_cases(fit, rng, draws, order)
    else:
        loss, weight = draw_residuals(fit, rng, draws, np.arange(len(order)), noise, order, smooth)
    return refit(fit, loss, weight, kind=kind)


def _only(made: Draws, numbers: Indices) -> Draws:
    rows = np.isin(made.numbers, numbers)
    return replace(made, vectors=made.vectors[rows], numbers=made.numbers[rows])
