"""Which further runs would turn "not resolved" into another verdict.

Two kinds of further runs are tried: more seeds in every cell of both lines, and further budgets above the present ones
with the sizes of the largest. The spread of the log multipliers under the larger design is that of the linearised fit
at the nodes of the noise posterior; the band shrinks with it. What the estimate will then be is simulated from the
present draws: a design that leaves the share q of a standard deviation moves the estimate by √(1 − q²) of a draw's
deviation. The chance of a verdict is the share of draws in which the moved estimate with the narrower band has one.

This is an approximation: the law stays linear in its parameters, and the critical value of the band stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scaling.laws.compute_multiplier import PairOfFrontiers
from scaling.laws.line_comparison import LineComparison
from scaling.laws.line_frontiers import line_frontier
from scaling.laws.noise_groups import SCATTER, budget_codes, noise_groups
from scaling.laws.points import Array, Indices, Points
from scaling.laws.simultaneous import Band, BandVerdict
from scaling.laws.solver.newton import Flags
from scaling.laws.solver.objective_terms import System

ENOUGH = 0.80  # chance of a verdict from which a design resolves the comparison
SEEDS = (1, 3, 7)  # further seeds of every cell: 2, 4 and 8 times the runs (assumption of what is in reach)
BUDGETS = (1, 2, 3)  # further budgets above (assumption)
_NODES = 64  # of the noise posterior, over which a spread is averaged
_UNKNOWN_SCATTER = 0.5  # of a run's variance where no cell is repeated (assumption)
_STEP = 1e-4


@dataclass(frozen=True)
class FurtherRuns:
    """One way to extend both lines.

    Attributes:
        kind: `seeds` in every cell, or `budgets` above the present ones. count: how many.
        runs: further runs of both lines. compute: their FLOPs, counted as 6·N·D.
        chance: that the verdict then is another than "not resolved".
    """

    kind: Literal["seeds", "budgets"]
    count: int
    runs: int
    compute: float
    chance: float

    def __str__(self) -> str:
        what = "seed" if self.kind == "seeds" else "larger budget"
        each = " of every cell" if self.kind == "seeds" else ""
        plural = "s" if self.count > 1 else ""
        return f"{self.count} further {what}{plural}{each} ({self.runs} runs, {self.compute:.2g} FLOPs)"


@dataclass(frozen=True)
class Resolution:
    """Everything that was tried, and the cheapest that gives a verdict in 80 % of the draws (None: none in reach)."""

    tried: tuple[FurtherRuns, ...]

    @property
    def cheapest(self) -> FurtherRuns | None:
        """The cheapest way in FLOPs that is likely enough."""
        likely = [runs for runs in self.tried if runs.chance >= ENOUGH]
        return min(likely, key=lambda runs: runs.compute) if likely else None

    def __str__(self) -> str:
        if self.cheapest:
            return f"{self.cheapest} would resolve it with a chance of {self.cheapest.chance:.0%}"
        best = max(self.tried, key=lambda runs: runs.chance)
        return f"nothing in reach would resolve it with a chance of {ENOUGH:.0%}; {best} would with {best.chance:.0%}"


def what_would_resolve(compared: LineComparison) -> Resolution:
    """The further runs tried, for a comparison whose verdict is not resolved (or any other)."""
    points = compared.joint.fit.points
    chance = chance_of_verdict(compared)
    tried = []
    for kind, count, larger in _extended(points, (compared.line, compared.reference)):
        added = larger.select(np.arange(len(points), len(larger)))
        compute = float((6.0 * added.params * added.tokens).sum())
        tried.append(FurtherRuns(kind, count, len(added), compute, chance(larger)))
    return Resolution(tuple(tried))


def chance_of_verdict(compared: LineComparison) -> Callable[[Points], float]:
    """The chance of another verdict than "not resolved" as a function of a larger design: the points of the joint fit
    and further ones after them, of whose losses nothing is read.
    """
    now = _spread(compared, compared.joint.fit.points)

    def chance(larger: Points) -> float:
        # A multiplier cut at its largest value does not move with the parameters: no run shrinks its spread.
        shrunk = np.minimum(_spread(compared, larger) / np.where(now > 0, now, np.inf), 1.0)
        shrunk[now == 0] = 1.0
        return _chance(compared, shrunk)

    return chance


def _chance(compared: LineComparison, left: Array) -> float:
    """Share of draws with a verdict once the standard deviations are `left` [m] times the present ones."""
    verdict = compared.verdict
    pair = compared.joint.pair(compared.line, compared.reference, compared.cost_per_token)
    logs = np.stack([pair.log_multiplier(float(cost)) for cost in compared.costs], axis=1)[1:]
    moved = verdict.band.estimate + np.sqrt(1.0 - left**2) * (logs - verdict.band.estimate)
    width = verdict.band.simultaneous * left
    words = [BandVerdict(Band(own, width, width, verdict.band.critical), verdict.margin).word for own in moved]
    return float(np.mean([word != "not resolved" for word in words])) if words else 0.0


def _spread(compared: LineComparison, points: Points) -> Array:
    """Standard deviation of the log multipliers [m] under the design `points`, in the linearised fit."""
    fit, parts = compared.joint.fit, compared.joint.parts
    free = fit.layout.free & ~fit.layout.at_bound(fit.vector)
    jacobian = System(fit.layout, points).jacobian(fit.vector)[:, free]
    information = jacobian.T @ jacobian
    nodes, sigma = parts.draw_nodes(np.random.default_rng(0), _NODES)
    if parts.groups.scatter is None:
        nodes = nodes.copy()
        nodes[:, SCATTER] = _UNKNOWN_SCATTER
    weights = np.linalg.pinv(information, rcond=1e-12, hermitian=True) @ _gradient(compared, free).T
    spread = noise_groups(points).spread(nodes, jacobian)
    variance = np.einsum("pm,qps,sm->qm", weights, spread, weights) * sigma[:, None] ** 2
    deviation: Array = np.sqrt(variance.mean(axis=0))
    return deviation


def _gradient(compared: LineComparison, free: Flags) -> Array:
    """∂ log multiplier / ∂ free parameters [m, p], by central differences."""
    fit = compared.joint.fit
    step = _STEP * np.maximum(np.abs(fit.vector), 1e-2)
    moves = np.diag(step)[free]
    vectors = np.concatenate([fit.vector + moves, fit.vector - moves])
    names, costs = (compared.line, compared.reference), compared.cost_per_token
    mine, theirs = (line_frontier(fit, name, vectors, costs.get(name)) for name in names)
    pair = PairOfFrontiers(mine, theirs)
    logs = np.stack([pair.log_multiplier(float(cost)) for cost in compared.costs])
    count = len(moves)
    gradient: Array = (logs[:, :count] - logs[:, count:]) / (2.0 * step[free])
    return gradient


def _extended(points: Points, lines: tuple[str, str]) -> Iterator[tuple[Literal["seeds", "budgets"], int, Points]]:
    assert points.line is not None
    own = np.flatnonzero(np.isin(points.line, lines))
    for count in SEEDS:
        yield "seeds", count, _with_seeds(points, _cells(points, own), count)
    codes = budget_codes(points)
    if codes is not None and codes.max() > 0:
        for count in BUDGETS:
            yield "budgets", count, _with_budgets(points, own, codes, count)


def _cells(points: Points, rows: Indices) -> Indices:
    """One row of every cell among `rows`."""
    assert points.line is not None
    cell = points.cell.tolist() if points.cell is not None else [""] * len(points)
    keys = list(zip(points.line.tolist(), cell, points.params.tolist(), points.tokens.tolist(), strict=True))
    first = {keys[row]: row for row in reversed(rows.tolist())}
    return np.array(sorted(first.values()), dtype=np.intp)


def _with_seeds(points: Points, cells: Indices, count: int) -> Points:
    larger = points.select(np.concatenate([np.arange(len(points)), np.tile(cells, count)]))
    own = points.seed.tolist() if points.seed is not None else [""] * len(points)
    new = [f"further {k}" for k in range(count) for _ in cells]
    return replace(larger, seed=np.array([*own, *new]))


def _with_budgets(points: Points, rows: Indices, codes: Indices, count: int) -> Points:
    """Further budgets above, each with the cells of the two lines at their largest one; N and D grow alike."""
    assert points.budget is not None
    assert points.line is not None
    levels = np.array([points.budget[codes == code].mean() for code in np.unique(codes)])
    ratio = float(np.exp(np.median(np.diff(np.log(levels)))))
    cells = _cells(points, rows)
    by_line = [cells[points.line[cells] == line] for line in np.unique(points.line[rows])]
    top = np.concatenate([own[codes[own] == codes[own].max()] for own in by_line])
    larger = points.select(np.concatenate([np.arange(len(points)), np.tile(top, count)]))
    steps = np.concatenate([np.zeros(len(points)), np.repeat(np.arange(1, count + 1), len(top))])
    side, whole = ratio ** (steps / 2.0), ratio**steps
    labels = [] if larger.cell is None else zip(larger.cell.tolist(), steps.tolist(), strict=True)
    cell = np.array([f"{label} {step:g}" if step else label for label, step in labels])
    return replace(
        larger,
        params=larger.params * side,
        tokens=larger.tokens * side,
        budget=None if larger.budget is None else larger.budget * whole,
        flops=None if larger.flops is None else larger.flops * whole,
        cell=None if larger.cell is None else cell,
    )
