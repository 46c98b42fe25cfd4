"""The noise of a fit in parts, each with its own uncertainty.

What a law leaves of log L has a part that differs between seeds of a cell, a part that the law misses at a cell
however often it is trained (scatter), a part that all runs of a budget share (schedule, batch, warm-up) and, with
several lines, a part of each line's budget. The ratios of their variances are taken from the restricted likelihood
(REML, Patterson and Thompson 1971) of the linearised fit over a grid,

    log p(node | r) = −½ log|V| − ½ log|J'V⁻¹J| − ν/2 · log(r'Pr) + log prior,   P = V⁻¹ − V⁻¹J(J'V⁻¹J)⁻¹J'V⁻¹,

with a half-normal prior of scale 1 on τ/σ of the budget parts and flat ones on the shares of scatter and of what
matched runs have in common (docs/design.md, "Laws and fits"). A point estimate of a variance ratio from three budgets
would be zero half of the time, so there is none: `NoiseParts.draw` takes a node by its probability, then
σ² = r'Pr / χ²_ν, and simulates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from scaling.errors import FitError
from scaling.laws.draws import Draws, Interval, percentile_interval, refit
from scaling.laws.fitting import Fit
from scaling.laws.noise_groups import BUDGET, LINE_BUDGET, SCATTER, SHARED, NoiseGroups, noise_groups
from scaling.laws.points import Array
from scaling.laws.solver.objective_terms import System

PRIOR_SCALE = 1.0  # of τ/σ, assumption; it agrees with public isoFLOP tables, which have .2 to 2.4, median .87
MIN_BUDGETS_FOR_VALUE = 4  # with three budgets and a law through them the budget part is an interval
_SHARES = np.array([0.0, 0.25, 0.5, 0.75, 0.95])  # of variance: cell scatter, and what matched runs have in common
_RATIOS = np.linspace(0.0, 2.0, 6)  # τ/σ; a half-normal of scale 1 has .05 beyond
_REFINEMENTS = 2  # of the grid, where few nodes hold the posterior
_NEGLIGIBLE = 1e-3  # of the largest marginal probability
_LEAST_FREEDOM = 3  # below it σ² has no variance
_SMALLEST = 1e-28  # mean squared residual of a law through every point to rounding
_SUMMARY_DRAWS = 4000


class NoisePart(NamedTuple):
    """Standard deviation of one part: posterior median (None where only the interval can be said), 95 % interval."""

    value: float | None
    interval: Interval


@dataclass(frozen=True)
class NoiseSummary:
    """The parts for people and documents, in nats at the geometric mean of the losses.

    Args:
        seed: between seeds of a cell; None without a cell of several seeds.
        scatter: of a cell beyond its seeds; without repeated cells seed and scatter together.
        budget: shared by the runs of a budget; None without budgets.
        line_budget: shared by the runs of one line at a budget; None for a single line.
        matched: share of a run's variance in common with the matched run of another line; None where none match.
    """

    seed: NoisePart | None
    scatter: NoisePart
    budget: NoisePart | None
    line_budget: NoisePart | None
    matched: NoisePart | None

    def to_json(self) -> dict[str, object]:
        """Each part as value and interval in nats (`matched` a share); null where the design does not have the part."""
        named = {name: getattr(self, name) for name in ("seed", "scatter", "budget", "line_budget", "matched")}
        return {
            name: None if part is None else {"value": part.value, "interval": list(part.interval)}
            for name, part in named.items()
        }

    def __str__(self) -> str:
        first = f"scatter {_text(self.scatter)}" if self.seed else f"seed and scatter together {_text(self.scatter)}"
        named = [("seed", self.seed), ("budget", self.budget), ("line × budget", self.line_budget)]
        texts = [f"{name} {_text(part)}" for name, part in named if part is not None]
        ordered = [*texts[:1], first, *texts[1:]] if self.seed else [first, *texts]
        return ", ".join(ordered) + " nats" + ("" if self.seed else " (no cell has several seeds)")


@dataclass(frozen=True, eq=False)
class NoiseParts:
    """Posterior of the variance ratios of one fit.

    Args:
        groups: which runs share what.
        nodes: [K, 4] φ, ω, b, m of `noise_groups`. prior, probability: of each node [K].
        squares: r'Pr at every node [K], of log loss. freedom: ν.
        loss: geometric mean loss, which turns log loss into nats.
        rows: the points that take part (of positive weight) among all of the fit.
    """

    groups: NoiseGroups
    nodes: Array
    prior: Array
    probability: Array
    squares: Array
    freedom: int
    loss: float
    rows: Array

    def draw_nodes(self, rng: np.random.Generator, draws: int) -> tuple[Array, Array]:
        """A node [draws, 4] and σ, the standard deviation of one run in log loss [draws], for every draw."""
        chosen = rng.choice(len(self.nodes), size=draws, p=self.probability)
        sigma: Array = np.sqrt(self.squares[chosen] / rng.chisquare(self.freedom, size=draws))
        return self.nodes[chosen], sigma

    def draw(self, rng: np.random.Generator, draws: int) -> Array:
        """Noise of the whole design in log loss [draws, points]; zero for points of zero weight."""
        nodes, sigma = self.draw_nodes(rng, draws)
        noise = np.zeros((draws, len(self.rows)))
        noise[:, self.rows > 0] = sigma[:, None] * self.groups.draw(nodes, rng)
        return noise

    def run_noise(self, rng: np.random.Generator, draws: int) -> Array:
        """Noise of one further run in log loss [draws]: seed and scatter, and the effect of a budget of its own."""
        nodes, sigma = self.draw_nodes(rng, draws)
        effects = nodes[:, BUDGET] ** 2 + nodes[:, LINE_BUDGET] ** 2
        noise: Array = sigma * np.sqrt(1.0 + effects) * rng.normal(size=draws)
        return noise

    @cached_property
    def summary(self) -> NoiseSummary:
        """Every part with its interval."""
        nodes, sigma = self.draw_nodes(np.random.default_rng(0), _SUMMARY_DRAWS)
        scatter = nodes[:, SCATTER]
        has_seeds = self.groups.scatter is not None
        budgets = 0 if self.groups.budget is None else int(self.groups.budget.max()) + 1
        return NoiseSummary(
            seed=self._part(sigma * np.sqrt(1.0 - scatter)) if has_seeds else None,
            scatter=self._part(sigma * np.sqrt(scatter) if has_seeds else sigma),
            budget=self._budget_part(sigma * nodes[:, BUDGET], budgets) if budgets else None,
            line_budget=self._budget_part(sigma * nodes[:, LINE_BUDGET], budgets)
            if self.groups.line_budget is not None
            else None,
            matched=self._part((1.0 - scatter) * nodes[:, SHARED] / self.loss)
            if self.groups.shared is not None
            else None,
        )

    def _part(self, values: Array) -> NoisePart:
        low, high = percentile_interval(values)
        return NoisePart(float(np.median(values)) * self.loss, (low * self.loss, high * self.loss))

    def _budget_part(self, values: Array, budgets: int) -> NoisePart:
        part = self._part(values)
        return part if budgets >= MIN_BUDGETS_FOR_VALUE else part._replace(value=None)


def noise_parts(fit: Fit) -> NoiseParts:
    """The parts of the noise of `fit`, from its residuals and the groups of its points.

    Raises:
        FitError: the law has as many parameters as there are points, so nothing is left to take noise from.
    """
    rows = fit.points.weights > 0
    groups = noise_groups(fit.points.select(rows))
    jacobian = free_jacobian(fit)[rows]
    freedom = len(jacobian) - jacobian.shape[1]
    if freedom < 1:
        raise FitError(
            "the law passes through every point: its noise is unknown",
            got=f"{len(jacobian)} points, {jacobian.shape[1]} parameters",
            allowed="more points than parameters",
        )
    columns = np.column_stack([jacobian, fit.residuals[rows]])
    axes = _axes(groups)
    nodes, prior, probability, squares = _posterior(groups, axes, columns, freedom)
    for _ in range(_REFINEMENTS):
        finer = [_refined(axis, nodes[:, part], probability) for part, axis in enumerate(axes)]
        if all(new is old for new, old in zip(finer, axes, strict=True)):
            break
        axes = finer
        nodes, prior, probability, squares = _posterior(groups, axes, columns, freedom)
    loss = float(np.exp(np.log(fit.points.loss[rows]).mean()))
    return NoiseParts(
        groups, nodes, prior, probability, squares, max(freedom, _LEAST_FREEDOM), loss, rows.astype(float)
    )


def part_draws(fit: Fit, parts: NoiseParts, *, draws: int = 1000, seed: int = 0, noise: Array | None = None) -> Draws:
    """Draws of a designed grid: each simulates the noise of one node on the fitted law and refits, all in one batch.

    Args:
        noise: [draws, points] of log loss in place of that of `parts` (`chosen_again`).

    Raises:
        FitError: `draws` is below 1.
    """
    if draws < 1:
        raise FitError("an interval takes draws", got=draws, allowed="at least 1; 1000 for an interval")
    if noise is None:
        noise = parts.draw(np.random.default_rng(seed), draws)
    loss = np.exp(np.log(fit.points.loss) - fit.residuals + noise)
    return refit(fit, loss, fit.points.weights, kind="residuals", clustered=fit.points.trunk is not None)


def free_jacobian(fit: Fit) -> Array:
    """∂ log L̂ [points, parameters not at a bound], columns of unit length."""
    at = fit.vector
    free = fit.layout.free & ~fit.layout.at_bound(at)
    jacobian = System(fit.layout, fit.points).jacobian(at)[:, free]
    length = np.sqrt((jacobian**2).sum(axis=0))
    scaled: Array = jacobian[:, length > 0] / length[length > 0]
    return scaled


def project_out(gram: Array) -> tuple[Array, Array]:
    """r'Pr and log|J'V⁻¹J| [nodes] from the gram of [J, r] [nodes, p + 1, p + 1]."""
    information = gram[:, :-1, :-1].copy()
    diagonal = np.einsum("qii->qi", information)
    diagonal *= 1.0 + 1e-10  # a direction the points do not determine explains nothing
    right = gram[:, :-1, -1]
    explained = (right * np.linalg.solve(information, right[:, :, None])[:, :, 0]).sum(axis=1)
    return gram[:, -1, -1] - explained, np.linalg.slogdet(information)[1]


def _axes(groups: NoiseGroups) -> list[Array]:
    """Values of φ, ω, b and m; a part that the design does not have stays at zero."""
    of_part = {SHARED: _SHARES, SCATTER: _SHARES, BUDGET: _RATIOS, LINE_BUDGET: _RATIOS}
    return [np.zeros(1) if codes is None else of_part[part] for part, codes in enumerate(groups.codes)]


def _posterior(
    groups: NoiseGroups, axes: list[Array], columns: Array, freedom: int
) -> tuple[Array, Array, Array, Array]:
    """Nodes [K, 4], their prior and posterior probability [K], and r'Pr [K], from [J, r] [n, p + 1]."""
    nodes = np.array(list(product(*axes)))
    steps = [np.gradient(axis) if len(axis) > 1 else np.ones(1) for axis in axes]
    weight = np.array([np.prod(own) for own in product(*steps)])
    prior = weight * np.exp(-0.5 * (nodes[:, [BUDGET, LINE_BUDGET]] ** 2).sum(axis=1) / PRIOR_SCALE**2)
    log_determinant, gram = groups.products(nodes, columns)
    squares, log_information = project_out(gram)
    squares = np.maximum(squares, _SMALLEST * len(columns))
    log_likelihood = -0.5 * (log_determinant + log_information + freedom * np.log(squares))
    probability = prior * np.exp(log_likelihood - log_likelihood.max())
    return nodes, prior, probability / probability.sum(), squares


def _refined(axis: Array, values: Array, probability: Array) -> Array:
    """The axis over the nodes that hold the posterior and their neighbours; itself where that is all of it."""
    marginal = np.array([probability[values == value].sum() for value in axis])
    held = np.flatnonzero(marginal > _NEGLIGIBLE * marginal.max())
    first, last = max(0, int(held[0]) - 1), min(len(axis) - 1, int(held[-1]) + 1)
    return axis if last - first + 1 >= len(axis) else np.linspace(axis[first], axis[last], len(axis))


def _text(part: NoisePart) -> str:
    low, high = part.interval
    return f"[{low:.3f}, {high:.3f}]" if part.value is None else f"{part.value:.3f} [{low:.3f}, {high:.3f}]"
