"""Which runs share which part of their noise, and the covariance that follows.

In units of the variance of one run, the noise of a design has the covariance

    V = (1 − ω)·[ (1 − φ)·I + φ·S ] + ω·K + b²·B + m²·M

with S, K, B, M equal to one where two runs share a group and zero elsewhere: S the same seed in the same cell of
another line (or a common trunk), K a cell, B a budget, M a budget within a line. ω is the share of cell scatter (what
the form misses at a cell, however many seeds it has), φ the share of the rest that matched runs have in common, b and
m the standard deviations of the budget effects. Every product x'V⁻¹y is taken for all nodes (φ, ω, b, m) at
once, at a cost linear in the number of runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scaling.laws.points import Array, Indices, Points
from scaling.laws.solver.identifiability import SAME_COMPUTE

SHARED, SCATTER, BUDGET, LINE_BUDGET = range(4)  # columns of a node: φ, ω, b, m
_CHUNK_VALUES = 4_000_000  # nodes × columns² held at once
_MOST_MATCHES = 128  # matched runs beyond which lines are not paired: the cost grows with their cube, the gain does not


class Products(NamedTuple):
    """log|V| [nodes] and X'V⁻¹X [nodes, f, f] for columns X [n, f]."""

    log_determinant: Array
    gram: Array


@dataclass(frozen=True, eq=False)
class NoiseGroups:
    """The groups of n runs, each a code per run [n], or None where the design has no such part.

    Args:
        shared: runs of different lines with the same cell and seed, or readings of one trunk.
        scatter: cells; None without a cell of several seeds (seed and scatter are then one part).
        budget: budgets; None where no budget is given or every run has its own.
        line_budget: budgets within a line; None for a single line.
    """

    count: int
    shared: Indices | None
    scatter: Indices | None
    budget: Indices | None
    line_budget: Indices | None

    @property
    def codes(self) -> tuple[Indices | None, ...]:
        """The parts in the order of a node's columns."""
        return self.shared, self.scatter, self.budget, self.line_budget

    def variances(self, nodes: Array) -> tuple[Array, Array]:
        """Variance of a run's own noise [nodes] and of each part [nodes, 4], in units of σ²."""
        shared, scatter, budget, line_budget = nodes.T
        rest = 1.0 - scatter
        parts = np.stack([rest * shared, scatter, budget**2, line_budget**2], axis=1)
        return rest * (1.0 - shared), parts

    def products(self, nodes: Array, columns: Array) -> Products:
        """log|V| and X'V⁻¹X of X = `columns` [n, f] at every node [nodes, 4].

        The grouping with the most groups is inverted group by group (Sherman and Morrison), the others by their
        indicator columns (Woodbury).
        """
        own, parts = self.variances(nodes)
        inner = SCATTER if self.scatter is not None else SHARED
        outer = [
            (part, _indicators(codes)) for part, codes in enumerate(self.codes) if codes is not None and part != inner
        ]
        table = np.concatenate([*(indicator for _, indicator in outer), columns], axis=1)
        part_of = np.repeat([part for part, _ in outer], [indicator.shape[1] for _, indicator in outer]).astype(int)
        sizes, sums = _group_sums(self.codes[inner], table)
        pieces = []
        chunk = max(1, _CHUNK_VALUES // table.shape[1] ** 2)
        for i in range(0, len(nodes), chunk):
            some = slice(i, i + chunk)
            base = _grouped(own[some], parts[some, inner], table, sizes, sums)
            pieces.append(_woodbury(base, parts[some][:, part_of]))
        return Products(*(np.concatenate(piece) for piece in zip(*pieces, strict=True)))

    def spread(self, nodes: Array, columns: Array) -> Array:
        """X'VX of X = `columns` [n, f] at every node [nodes, f, f]."""
        own, parts = self.variances(nodes)
        spread: Array = own[:, None, None] * (columns.T @ columns)
        for variance, codes in zip(parts.T, self.codes, strict=True):
            if codes is None:  # a part that the design does not have: every run has it for itself
                spread = spread + variance[:, None, None] * (columns.T @ columns)
            else:
                totals = np.zeros((int(codes.max()) + 1, columns.shape[1]))
                np.add.at(totals, codes, columns)
                spread = spread + variance[:, None, None] * (totals.T @ totals)
        return spread

    def draw(self, nodes: Array, rng: np.random.Generator) -> Array:
        """One noise vector in units of σ for each node [nodes, n]."""
        noise = np.zeros((len(nodes), self.count))
        for _, effects in self._effects(nodes, rng):
            noise += effects
        return noise

    def draw_apart(self, nodes: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """The same in two summands [nodes, n]: what seeds do (shared by matched runs or not), and what stays however
        many seeds a cell has.
        """
        seeds, others = np.zeros((2, len(nodes), self.count))
        for part, effects in self._effects(nodes, rng):
            target = seeds if part in (None, SHARED) else others
            target += effects
        return seeds, others

    def _effects(self, nodes: Array, rng: np.random.Generator) -> Iterator[tuple[int | None, Array]]:
        """The noise of each run's own (None) and of every part [nodes, n]."""
        own, parts = self.variances(nodes)
        yield None, np.sqrt(own)[:, None] * rng.normal(size=(len(nodes), self.count))
        for part, (variance, codes) in enumerate(zip(parts.T, self.codes, strict=True)):
            if codes is not None and variance.any():
                effects = rng.normal(size=(len(nodes), int(codes.max()) + 1))
                yield part, np.sqrt(variance)[:, None] * effects[:, codes]


def _indicators(codes: Indices) -> Array:
    indicator: Array = (codes[:, None] == np.arange(codes.max() + 1)).astype(float)
    return indicator


def _group_sums(codes: Indices | None, table: Array) -> tuple[Indices, Array]:
    """Group sizes and how many groups have them [sizes, 2], and Σ_groups (F'1)(1'F) [sizes, f, f]; a run alone is a
    group.
    """
    if codes is None:
        return np.empty((0, 2), dtype=np.intp), np.empty((0, table.shape[1], table.shape[1]))
    totals = np.zeros((codes.max() + 1, table.shape[1]))
    np.add.at(totals, codes, table)
    members = np.bincount(codes)
    sizes, counts = np.unique(members, return_counts=True)
    sums = np.stack([totals[members == size].T @ totals[members == size] for size in sizes])
    return np.stack([sizes, counts], axis=1), sums


def _grouped(own: Array, variance: Array, table: Array, sizes: Indices, sums: Array) -> Products:
    """log|V0| and F'V0⁻¹F of V0 = own·I + variance·(groups)."""
    log_determinant = np.log(own) * len(table)
    gram = np.repeat((table.T @ table)[None], len(own), axis=0)
    for (size, groups), total in zip(sizes.tolist(), sums, strict=True):
        gram -= (variance / (own + size * variance))[:, None, None] * total
        log_determinant = log_determinant + groups * np.log1p(size * variance / own)
    return Products(log_determinant, gram / own[:, None, None])


def _woodbury(base: Products, variance: Array) -> Products:
    """Adds Z·diag(variance)·Z' to the covariance, for Z the first g columns of the gram and `variance` [q, g]; what is
    left is of the other columns.
    """
    size = variance.shape[1]
    log_determinant, gram = base
    if not size:
        return base
    root = np.sqrt(variance)
    middle = np.eye(size) + root[:, :, None] * gram[:, :size, :size] * root[:, None, :]
    cross = root[:, :, None] * gram[:, :size, size:]
    log_determinant = log_determinant + np.linalg.slogdet(middle)[1]
    return Products(log_determinant, gram[:, size:, size:] - cross.transpose(0, 2, 1) @ np.linalg.solve(middle, cross))


def noise_groups(points: Points) -> NoiseGroups:
    """The groups of a design, read off its labels, seeds, trunks and budgets."""
    lines = points.line if points.line is not None else np.full(len(points), "")
    several = len(np.unique(lines)) > 1
    budget = budget_codes(points)
    scatter = None
    if points.seed is not None and points.trunk is None:
        scatter = _unless_alone(_codes(lines.tolist(), *_cell(points)))
    line_budget = _codes(lines.tolist(), budget.tolist()) if budget is not None and several else None
    shared = _shared(points, several)
    if shared is not None and scatter is not None and shared.max() >= _MOST_MATCHES:
        shared = None
    return NoiseGroups(len(points), shared, scatter, budget, line_budget)


def budget_codes(points: Points) -> Indices | None:
    """A code per budget, ascending; budgets within 2 % are one. None without a budget that two runs share."""
    if points.budget is None:
        return None
    order = np.argsort(points.budget, kind="stable")
    steps = np.diff(np.log(points.budget[order]), prepend=-np.inf) > SAME_COMPUTE
    codes = np.empty(len(points), dtype=np.intp)
    codes[order] = np.cumsum(steps) - 1
    return _unless_alone(codes)


def _shared(points: Points, several: bool) -> Indices | None:
    """Common trunks, or matched runs of several lines; None where nothing is shared."""
    if points.trunk is not None:
        return _unless_alone(_codes(points.trunk.tolist()))
    if several and points.cell is not None and points.seed is not None:
        return _unless_alone(_codes(points.cell.tolist(), points.seed.tolist()))
    return None


def _unless_alone(codes: Indices) -> Indices | None:
    """The codes, or None where every run is a group of its own."""
    return codes if codes.max() + 1 < len(codes) else None


def _cell(points: Points) -> tuple[list[object], ...]:
    cell = points.cell.tolist() if points.cell is not None else [""] * len(points)
    return cell, points.params.tolist(), points.tokens.tolist()


def _codes(*columns: list[object]) -> Indices:
    """A code per distinct row of the columns."""
    seen: dict[tuple[object, ...], int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in zip(*columns, strict=True)], dtype=np.intp)
