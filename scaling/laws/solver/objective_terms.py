"""A form laid over points: the objective of a parameter vector, with every derivative a Newton step needs.

With terms T_k = exp(z_k) and z_k linear in the parameters (but for a stretch), y = Σ T_k + E and m = power · log y
(a form has a floor or a power here), so

    ∇m  = power · Σ_k share_k ∇z_k,   share_k = T_k / y   (1/y for the floor, which enters linearly)
    ∇²m = power · ( Σ_k share_k (∇z_k ∇z_kᵀ + ∇²z_k) − (Σ share_k ∇z_k)(Σ share_k ∇z_k)ᵀ )

(with a floor outside the power, m = log(E + S^power), see `outer_power`) and gradient and Hessian of Σ ρ(m − log L)
of (draws × points) weights times products of columns that all draws share: a handful of matrix products, no
Jacobian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from scaling.errors import FitError
from scaling.laws.forms import Stretched, Term
from scaling.laws.objectives import Objective
from scaling.laws.points import Array, Indices, Points
from scaling.laws.solver.outer_power import Above, add_edges, log_loss_above
from scaling.laws.solver.parameters import Layout, stretch_names

_LARGEST_LOG = 300.0  # of a term: a wilder trial step is turned back by its loss all the same
_LARGEST_LOG_LOSS = 115.0  # 1e50: products of squares of it are still numbers
Entry = tuple[int, int | None, Array]  # row, column (None: of the gradient), and what is added there per draw [R]


@dataclass(frozen=True)
class TermColumns:
    """∇z of one term (∇y of the floor): columns [f, n] common to all draws, at parameters `index` [f]."""

    index: Indices
    columns: Array
    constant: Array | None = None
    stretched: Stretched | None = None
    exponent: int | None = None
    first_theta: int = 0


class Local(NamedTuple):
    """The objective around each draw's parameters: value [R], gradient [R, P], damped Hessian [R, P, P]."""

    value: Array
    gradient: Array
    hessian: Array


class _Bent(NamedTuple):
    """What a stretch adds to one term: columns of ∇z that differ between draws, and ∇²z; all [R, n]."""

    own: list[tuple[int, Array]]
    bends: list[tuple[int, int, Array]]


class _Sums(NamedTuple):
    """Sums over points, and where they go.

    `columns` [n, f] of each part and `products` [n, f·g] of each pair are what (draws × points) weights are multiplied
    by; the results, side by side, times a matrix of zeros and ones are the gradient [R, P] and the Hessian [R, P·P].
    """

    columns: list[Array]
    products: dict[tuple[int, int], Array]
    to_gradient: Array
    to_hessian: Array


class System:
    """A form over points; see the module."""

    def __init__(self, layout: Layout, points: Points) -> None:
        self.layout, self.points = layout, points
        form = layout.form
        self.size = len(layout.names)
        codes = _line_codes(layout, points)
        self.terms = [_columns(layout, term, k, points, codes) for k, term in enumerate(form.terms)]
        self.floor: TermColumns | None = None
        if form.floor:
            index = np.array([layout.index(name) for name in layout.floors])
            here = np.ones((1, len(points))) if len(index) == 1 else codes == np.arange(len(index))[:, None]
            self.floor = TermColumns(index, layout.loss_scale * here)
        self.power = layout.index(form.power) if form.power else None
        self._inner_floor = self.floor if self.power is None else None  # one that is added to the terms
        self._unbounded = bool((layout.upper >= _LARGEST_LOG).any())
        self._linear = np.zeros((len(self.terms), self.size, len(points)))
        for plane, term in zip(self._linear, self.terms, strict=True):
            plane[term.index] = term.columns

    def log_loss(self, vector: Array) -> Array:
        """log of the predicted loss [draws, points] for internal vectors [draws, parameters]."""
        terms, _ = self._terms(vector)
        log_total: Array = np.log(self._total(vector, terms))
        if self.power is None:
            return log_total
        log_power: Array = vector[:, self.power, None] * log_total
        return log_power if self.floor is None else log_loss_above(self._floor_value(vector), log_power)

    def value(self, vector: Array, objective: Objective, target: Array, weight: Array) -> Array:
        """Summed objective of each draw [draws]; `target` is log L or L, as the objective asks."""
        log_loss = self.log_loss(vector)
        residual = (log_loss if objective.in_log else _loss(log_loss)) - target
        return _weighted_sum(objective.rho(residual), weight)

    def local(self, vector: Array, objective: Objective, target: Array, weight: Array, damping: Array) -> Local:
        """Value, gradient and Hessian + damping · (Gauss–Newton matrix of the majoriser) of each draw.

        Works in place on (draws × points) arrays: their passes through the cache are what a fit costs.
        """
        shares, bent = self._terms(vector)
        total = self._total(vector, shares)
        inverse = np.reciprocal(total)
        shares *= inverse
        log_total = np.log(total, out=total)
        outer = None if self.power is None else vector[:, self.power, None]
        log_loss = log_total if outer is None else outer * log_total
        above = None
        if outer is not None and self.floor is not None:
            above = Above.of(self._floor_value(vector), log_loss)
            log_loss = above.log_loss
        predicted = None if objective.in_log else _loss(log_loss)
        value, slope, second, majoriser = objective.curvature((log_loss if predicted is None else predicted) - target)
        summed = _weighted_sum(value, weight)
        slope *= weight
        majoriser *= damping[:, None]
        second += majoriser
        second *= weight
        if predicted is not None:
            second *= predicted
            second += slope
            second *= predicted
            slope *= predicted
        if above is not None and outer is not None:
            return self._local_above(summed, above, shares, bent, slope, second, outer, log_total)
        bend = slope if outer is None else slope * outer
        outer_product = second - slope if outer is None else (second * outer - slope) * outer
        parts = [*shares, inverse] if self._inner_floor else [*shares]
        gradient, hessian = self._assemble(parts, bent, bend, outer_product)
        if outer is not None:
            self._add_power(gradient, hessian, parts, slope, second, outer, log_total)
        return Local(summed, gradient, hessian)

    def _local_above(
        self,
        value: Array,
        above: Above,
        shares: Array,
        bent: dict[int, _Bent],
        slope: Array,
        second: Array,
        outer: Array,
        log_total: Array,
    ) -> Local:
        """`local` of a form with a floor outside its power, from ρ' = `slope` and ρ'' = `second` in m [R, n]."""
        assert self.floor is not None
        assert self.power is not None
        parts = [*shares]
        weights = above.weights(slope, second, outer, log_total)
        gradient, hessian = self._assemble(parts, bent, weights.bend, weights.outer_product)
        edges: list[tuple[Indices, Array, Array]] = [
            (self.floor.index, self.floor.columns, weights.floor_term),
            (np.array([self.power]), np.ones((1, len(self.points))), weights.power_term),
        ]
        for (index, columns, cross), first in zip(edges, (weights.floor_slope, weights.power_slope), strict=True):
            gradient[:, index] += first @ columns.T
            for a, part in enumerate(parts):
                weight, ours = cross * part, self.terms[a]
                product = (ours.columns[:, None] * columns[None]).reshape(-1, len(self.points))
                entries = (weight @ product.T).reshape(-1, len(ours.index), len(index))
                hessian[:, ours.index[:, None], index[None]] += entries
                hessian[:, index[:, None], ours.index[None]] += entries.swapaxes(1, 2)
                for i, own in bent[a].own if a in bent else []:
                    cross_bent = (weight * own) @ columns.T
                    hessian[:, i, index] += cross_bent
                    hessian[:, index, i] += cross_bent
        add_edges(hessian, self.floor.index, self.floor.columns, self.power, weights)
        return Local(value, gradient, hessian)

    def jacobian(self, vector: Array) -> Array:
        """∂ log L̂ / ∂ parameters [points, parameters] at one internal vector [parameters], by central differences."""
        step = 1e-6 * np.maximum(np.abs(vector), 1e-3)
        up, down = vector + np.diag(step), vector - np.diag(step)
        jacobian: Array = ((self.log_loss(up) - self.log_loss(down)) / (2.0 * step[:, None])).T
        return jacobian

    def _terms(self, vector: Array) -> tuple[Array, dict[int, _Bent]]:
        """The terms T_k [terms, draws, points], and what is bent about those with a stretch."""
        z = np.matmul(vector, self._linear)
        bent = {}
        for k, term in enumerate(self.terms):
            if term.constant is not None:
                z[k] += term.constant
            if term.stretched is not None and term.exponent is not None:
                bent[k] = self._stretch(z[k], k, term.stretched, term.exponent, vector)
        if self._unbounded:
            np.minimum(z, _LARGEST_LOG, out=z)
        return np.exp(z, out=z), bent

    def _stretch(self, z: Array, k: int, stretched: Stretched, exponent_index: int, vector: Array) -> _Bent:
        """Subtracts exponent · log of the effective variable from `z`, and gives the derivatives of that."""
        theta_index = self.terms[k].first_theta + stretched.group
        slope = stretched.slope
        effective = stretched.effective(vector[:, theta_index] * slope)
        exponent = vector[:, exponent_index, None]
        centred = effective.log_value - self.layout.centres[k]
        z -= exponent * centred
        own, bends = [(exponent_index, -centred)], []
        for j in np.unique(theta_index).tolist():
            here = slope * (theta_index == j)
            own.append((j, -exponent * effective.first * here))
            bends.append((exponent_index, j, -effective.first * here))
            bends.append((j, j, -exponent * effective.second * here * here))
        return _Bent(own, bends)

    def _total(self, vector: Array, terms: Array) -> Array:
        total: Array = terms.sum(axis=0)
        if self._inner_floor is not None:
            total += vector[:, self._inner_floor.index] @ self._inner_floor.columns
        return total

    def _floor_value(self, vector: Array) -> Array:
        assert self.floor is not None
        value: Array = vector[:, self.floor.index] @ self.floor.columns
        return value

    @cached_property
    def _sets(self) -> list[TermColumns]:
        return [*self.terms, *([self._inner_floor] if self._inner_floor else [])]

    @cached_property
    def _sums(self) -> _Sums:
        identity = np.eye(self.size)
        products, places = {}, []
        for a, left in enumerate(self._sets):
            for b, right in enumerate(self._sets[a:], a):
                product = (left.columns[:, None] * right.columns[None]).reshape(-1, len(self.points))
                products[a, b] = np.ascontiguousarray(product.T)
                place = np.einsum("fi,gj->fgij", identity[left.index], identity[right.index])
                places.append((place if a == b else place + place.swapaxes(2, 3)).reshape(-1, self.size**2))
        columns = [np.ascontiguousarray(part.columns.T) for part in self._sets]
        to_gradient = np.concatenate([identity[part.index] for part in self._sets])
        return _Sums(columns, products, to_gradient, np.concatenate(places))

    def _assemble(
        self, parts: list[Array], bent: dict[int, _Bent], bend: Array, outer_product: Array
    ) -> tuple[Array, Array]:
        """Gradient Σ bend·∇m and Hessian Σ bend·∇²(log y) + outer_product·∇(log y)∇(log y)ᵀ over points."""
        sums = self._sums
        slopes: list[Array] = []
        blocks: list[Array] = []
        extra: list[Entry] = []
        for a, part in enumerate(parts):
            first, left = bend * part, outer_product * part
            slopes.append(first @ sums.columns[a])
            for b, other in enumerate(parts[a:], a):
                pair = left * other
                if a == b and a < len(self.terms):
                    pair += first
                blocks.append(pair @ sums.products[a, b])
                extra += self._bent_pairs(bent, a, b, pair)
            for i, own in bent[a].own if a in bent else []:
                extra.append((i, None, _dot(first, own)))
            for i, k, bends in bent[a].bends if a in bent else []:
                extra += _both_ways(i, k, _dot(first, bends))
        gradient = np.concatenate(slopes, axis=1) @ sums.to_gradient
        hessian = (np.concatenate(blocks, axis=1) @ sums.to_hessian).reshape(-1, self.size, self.size)
        for i, j, entry in extra:
            if j is None:
                gradient[:, i] += entry
            else:
                hessian[:, i, j] += entry
        return gradient, hessian

    def _bent_pairs(self, bent: dict[int, _Bent], a: int, b: int, pair: Array) -> Iterator[Entry]:
        """Σ_points pair · ∇z_a ∇z_bᵀ where one of the columns differs between draws."""
        ours, theirs = (bent[k].own if k in bent else [] for k in (a, b))
        for s, (i, u) in enumerate(ours):
            weighted = pair * u
            common = weighted @ self._sums.columns[b]
            for j, entry in zip(self._sets[b].index.tolist(), common.T, strict=True):
                yield from _both_ways(i, j, entry)
            for j, v in theirs if a != b else theirs[s:]:
                yield from _both_ways(i, j, _dot(weighted, v))
        for j, v in theirs if a != b else []:
            common = (pair * v) @ self._sums.columns[a]
            for i, entry in zip(self._sets[a].index.tolist(), common.T, strict=True):
                yield from _both_ways(i, j, entry)

    def _add_power(
        self,
        gradient: Array,
        hessian: Array,
        parts: list[Array],
        slope: Array,
        second: Array,
        outer: Array,
        log_total: Array,
    ) -> None:
        s = self.power
        gradient[:, s] += (slope * log_total).sum(axis=-1)
        hessian[:, s, s] += (second * log_total * log_total).sum(axis=-1)
        cross = second * outer * log_total + slope
        for a, part in enumerate(parts):
            index = self._sets[a].index
            entries = (cross * part) @ self._sets[a].columns.T
            hessian[:, s, index] += entries
            hessian[:, index, s] += entries


def _dot(left: Array, right: Array) -> Array:
    """Σ over points of two tables [R, n] (or one [n]): [R], without a table of the products."""
    dot: Array = np.einsum("...n,...n->...", left, right)
    return dot


def _both_ways(i: int, j: int, entry: Array) -> list[Entry]:
    """An entry of a symmetric matrix."""
    return [(i, j, entry)] if i == j else [(i, j, entry), (j, i, entry)]


def _loss(log_loss: Array) -> Array:
    """The predicted loss; a hopeless start's is cut where its square would leave the range of floats."""
    predicted: Array = np.exp(np.minimum(log_loss, _LARGEST_LOG_LOSS))
    return predicted


def _weighted_sum(value: Array, weight: Array) -> Array:
    """Σ weight · value over points [draws], for weights [points] or [draws, points]."""
    summed: Array = value @ weight if weight.ndim == 1 else np.einsum("rn,rn->r", value, weight)
    return summed


def _line_codes(layout: Layout, points: Points) -> Indices:
    if not layout.form.free or points.line is None:
        return np.zeros(len(points), dtype=np.intp)
    unknown = sorted(set(points.line.tolist()) - set(layout.lines))
    if unknown:
        raise FitError("these lines were not fitted", got=", ".join(unknown), allowed=", ".join(layout.lines))
    return np.array([layout.lines.index(str(name)) for name in points.line], dtype=np.intp)


def _columns(layout: Layout, term: Term, k: int, points: Points, codes: Indices) -> TermColumns:
    """∇z of one term over these points."""
    log_variable = np.log(getattr(points, term.variable)) - layout.centres[k]
    rows: list[tuple[int, Array]] = []
    for names, column in (
        (layout.per_line(term.coefficient), np.ones(len(points))),
        (_exponents(layout, term), -log_variable),
    ):
        rows += [
            (layout.index(name), column * (codes == j) if len(names) > 1 else column) for j, name in enumerate(names)
        ]
    constant = None if isinstance(term.exponent, str) else -term.exponent * log_variable
    stretched, exponent, theta = None, None, 0
    if term.stretch is not None and isinstance(term.exponent, str):
        stretched = term.stretch.lay(points, layout.ratios)
        exponent = layout.index(term.exponent)
        theta = layout.index(stretch_names(term, layout.ratios)[0])
    index = np.array([i for i, _ in rows], dtype=np.intp)
    return TermColumns(index, np.array([column for _, column in rows]), constant, stretched, exponent, theta)


def _exponents(layout: Layout, term: Term) -> list[str]:
    """Exponents that enter z linearly with a column common to all draws."""
    return layout.per_line(term.exponent) if isinstance(term.exponent, str) and term.stretch is None else []
