"""A form laid over points: the vector of parameters, and every derivative a Newton step needs.

With terms T_k = exp(z_k) and z_k linear in the parameters (but for a stretch), y = Σ T_k + E and m = power · log y, so

    ∇m  = power · Σ_k share_k ∇z_k,   share_k = T_k / y   (1/y for the floor, which enters linearly)
    ∇²m = power · ( Σ_k share_k (∇z_k ∇z_kᵀ + ∇²z_k) − (Σ share_k ∇z_k)(Σ share_k ∇z_k)ᵀ )

and gradient and Hessian of Σ ρ(m − log L) are sums of (draws × points) weights times products of columns that all
draws share:
a handful of matrix products, no Jacobian. Internal parameters are log coefficients at the centre of the data,
exponents, θ of
stretches, E in units of the largest loss, and the power.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaling.errors import FitError
from scaling.laws.forms import Form, Stretched, Term
from scaling.laws.objectives import Objective
from scaling.laws.points import Array, Indices, Points

MIN_EXPONENT, MAX_EXPONENT = 1e-3, 5.0  # assumption: a flatter term is a constant, a steeper one a wall
_LOG_COEFFICIENT = 25.0  # assumption: a term at the centre of the data lies within e^±25 of the largest loss
_POWER = (5e-3, 5.0)  # assumption; published outer powers are near 0.1


@dataclass(frozen=True)
class Layout:
    """Names, order, bounds and centres of the parameter vector; shared by the points fitted and the points
    predicted.
    """

    form: Form
    lines: tuple[str, ...]
    ratios: tuple[float, ...]
    centres: tuple[float, ...]
    names: tuple[str, ...]
    lower: Array
    upper: Array
    loss_scale: float

    def index(self, name: str) -> int:
        """Position of a parameter in the vector."""
        return self.names.index(name)

    @property
    def floors(self) -> list[str]:
        """The reported names of the floor; none where the form has none."""
        return self.per_line(self.form.floor) if self.form.floor else []

    def per_line(self, name: str) -> list[str]:
        """The reported names of `name`: one for each line if it is free."""
        return [f"{name}[{line}]" for line in self.lines] if name in self.form.free else [name]

    def natural(self, vector: Array) -> dict[str, Array]:
        """Internal vectors [draws, parameters] -> reported parameters, each [draws]."""
        values = {name: vector[:, j] for j, name in enumerate(self.names)}
        for term, centre in zip(self.form.terms, self.centres, strict=True):
            exponents = self.per_line(term.exponent) * len(self.lines) if isinstance(term.exponent, str) else []
            for j, name in enumerate(self.per_line(term.coefficient)):
                exponent = values[exponents[j]] if exponents else float(term.exponent)
                with np.errstate(over="ignore"):
                    values[name] = np.exp(values[name] + centre * exponent)
        for term in self.form.terms:
            if term.stretch and term.stretch.in_log:
                for name in _stretch_names(term, self.ratios):
                    values[name] = np.exp(values[name])
        for name in self.floors:
            values[name] = values[name] * self.loss_scale
        return self.form.rename(values) if self.form.rename else values

    def vector(self, parameters: Mapping[str, float]) -> Array:
        """Reported parameters -> the internal vector [parameters]; the inverse of `natural`."""
        values = dict(self.form.restore(parameters) if self.form.restore else parameters)
        for term, centre in zip(self.form.terms, self.centres, strict=True):
            exponents = self.per_line(term.exponent) * len(self.lines) if isinstance(term.exponent, str) else []
            for j, name in enumerate(self.per_line(term.coefficient)):
                exponent = values[exponents[j]] if exponents else float(term.exponent)
                values[name] = float(np.log(max(values[name], 1e-300)) - centre * exponent)
            if term.stretch and term.stretch.in_log:
                values |= {name: float(np.log(values[name])) for name in _stretch_names(term, self.ratios)}
        values |= {name: values[name] / self.loss_scale for name in self.floors}
        return np.array([values[name] for name in self.names])


@dataclass(frozen=True)
class Columns:
    """∇z of one term: columns [f, n] common to all draws, at parameters `index` [f]."""

    index: Indices
    columns: Array
    constant: Array | None
    stretched: Stretched | None
    exponent: int | None
    first_theta: int


class Local(NamedTuple):
    """The objective around each draw's parameters: value [R], gradient [R, P], damped Hessian [R, P, P]."""

    value: Array
    gradient: Array
    hessian: Array


class _Part(NamedTuple):
    """One summand of y with its derivatives: `own` are columns that differ between draws, `bends` second
    derivatives of z.
    """

    share: Array
    curved: bool
    own: list[tuple[int, Array]]
    bends: list[tuple[int, int, Array]]


class System:
    """A form over points; see the module."""

    def __init__(self, layout: Layout, points: Points) -> None:
        self.layout, self.points = layout, points
        form = layout.form
        self.size = len(layout.names)
        codes = _line_codes(layout, points)
        self.terms = [_columns(layout, term, k, points, codes) for k, term in enumerate(form.terms)]
        self.floor: Columns | None = None
        if form.floor:
            names = layout.floors
            indicator = np.array([codes == j for j in range(len(names))], dtype=np.float64) if len(names) > 1 else None
            columns = layout.loss_scale * (np.ones((1, len(points))) if indicator is None else indicator)
            self.floor = Columns(np.array([layout.index(n) for n in names]), columns, None, None, None, 0)
        self.power = layout.index(form.power) if form.power else None

    @cached_property
    def _sets(self) -> list[Columns]:
        return [*self.terms, *([self.floor] if self.floor else [])]

    @cached_property
    def _products(self) -> dict[tuple[int, int], tuple[Array, Indices]]:
        """For each pair of parts: products of their common columns [n, f·g], and where they go in a flat Hessian."""
        pairs = {}
        for a, left in enumerate(self._sets):
            for b, right in enumerate(self._sets[a:], a):
                product = (left.columns[:, None] * right.columns[None]).reshape(-1, len(self.points))
                place = (left.index[:, None] * self.size + right.index[None]).ravel()
                pairs[a, b] = (np.ascontiguousarray(product.T), place)
        return pairs

    def _terms(
        self, vector: Array
    ) -> tuple[list[Array], list[list[tuple[int, Array]]], list[list[tuple[int, int, Array]]]]:
        values: list[Array] = []
        own, bends = [], []
        for term in self.terms:
            z = vector[:, term.index] @ term.columns
            if term.constant is not None:
                z += term.constant
            mine: list[tuple[int, Array]] = []
            bend: list[tuple[int, int, Array]] = []
            if term.stretched is not None and term.exponent is not None:
                theta_index = term.first_theta + term.stretched.group
                slope = term.stretched.slope
                effective = term.stretched.effective(vector[:, theta_index] * slope)
                exponent = vector[:, term.exponent, None]
                centred = effective.log_value - self.layout.centres[len(values)]
                z -= exponent * centred
                mine.append((term.exponent, -centred))
                for j in np.unique(theta_index):
                    here = slope * (theta_index == j)
                    mine.append((int(j), -exponent * effective.first * here))
                    bend.append((term.exponent, int(j), -effective.first * here))
                    bend.append((int(j), int(j), -exponent * effective.second * here * here))
            values.append(np.exp(z, out=z))
            own.append(mine)
            bends.append(bend)
        return values, own, bends

    def log_loss(self, vector: Array) -> Array:
        """log of the predicted loss [draws, points] for internal vectors [draws, parameters]."""
        values, _, _ = self._terms(vector)
        total = values[0]
        for value in values[1:]:
            total = total + value
        if self.floor is not None:
            total = total + vector[:, self.floor.index] @ self.floor.columns
        log_total: Array = np.log(total)
        return log_total if self.power is None else vector[:, self.power, None] * log_total

    def value(self, vector: Array, objective: Objective, target: Array, weight: Array) -> Array:
        """Summed objective of each draw [draws]; `target` is log L or L, as the objective asks."""
        log_loss = self.log_loss(vector)
        residual = (log_loss if objective.in_log else np.exp(log_loss)) - target
        value: Array = (weight * objective.rho(residual)).sum(axis=-1)
        return value

    def local(self, vector: Array, objective: Objective, target: Array, weight: Array, damping: Array) -> Local:
        """Value, gradient and Hessian + damping · (Gauss–Newton matrix of the majoriser) of each draw.

        Works in place on (draws × points) arrays: their passes through the cache are what a fit costs.
        """
        shares, own, bends = self._terms(vector)
        total = shares[0] + shares[1] if len(shares) > 1 else shares[0].copy()
        for share in shares[2:]:
            total += share
        if self.floor is not None:
            e = vector[:, self.floor.index]
            total += e * self.layout.loss_scale if len(self.floor.index) == 1 else e @ self.floor.columns
        inverse = np.divide(1.0, total)
        for share in shares:
            share *= inverse
        log_total = np.log(total, out=total)
        outer = None if self.power is None else vector[:, self.power, None]
        log_loss = log_total if outer is None else outer * log_total
        predicted = None if objective.in_log else np.exp(log_loss)
        value, slope, second, majoriser = objective.curvature((log_loss if predicted is None else predicted) - target)
        value *= weight
        slope *= weight
        majoriser *= damping[:, None]
        second += majoriser
        second *= weight
        if predicted is not None:
            second *= predicted
            second += slope
            second *= predicted
            slope *= predicted
        bend = slope if outer is None else slope * outer
        outer_product = second - slope if outer is None else (second * outer - slope) * outer
        parts = [_Part(s, True, o, b) for s, o, b in zip(shares, own, bends, strict=True)]
        if self.floor is not None:
            parts.append(_Part(inverse, False, [], []))
        gradient, hessian = self._assemble(parts, bend, outer_product)
        if outer is not None:
            self._add_power(gradient, hessian, parts, slope, second, outer, log_total)
        return Local(value.sum(axis=-1), gradient, hessian)

    def _assemble(self, parts: list[_Part], bend: Array, outer_product: Array) -> tuple[Array, Array]:
        draws = len(bend)
        gradient = np.zeros((draws, self.size))
        flat = np.zeros((draws, self.size * self.size))
        for a, part in enumerate(parts):
            columns = self._sets[a]
            first = bend * part.share
            gradient[:, columns.index] += first @ columns.columns.T
            for i, own in part.own:
                gradient[:, i] += (first * own).sum(axis=-1)
            for i, j, z in part.bends:
                entry = (first * z).sum(axis=-1)
                flat[:, i * self.size + j] += entry
                if i != j:
                    flat[:, j * self.size + i] += entry
            left = outer_product * part.share
            for b, other in enumerate(parts[a:], a):
                pair = left * other.share
                if a == b and part.curved:
                    pair += first
                self._add_pair(flat, a, b, part, other, pair)
        hessian = flat.reshape(draws, self.size, self.size)
        return gradient, hessian

    def _add_pair(self, flat: Array, a: int, b: int, left: _Part, right: _Part, pair: Array) -> None:
        """Adds Σ_points pair · ∇z_a ∇z_bᵀ (and its transpose when a ≠ b)."""
        product, place = self._products[a, b]
        block = pair @ product
        flat[:, place] += block
        if a != b:
            flat[:, (place % self.size) * self.size + place // self.size] += block
        if not (left.own or right.own):
            return
        ours = [*self._common(a), *left.own]
        theirs = [*self._common(b), *right.own]
        for s, (i, u) in enumerate(ours):
            for t, (j, v) in enumerate(theirs):
                if s < len(self._sets[a].index) and t < len(self._sets[b].index):
                    continue
                entry = (pair * u * v).sum(axis=-1)
                flat[:, i * self.size + j] += entry
                if a != b:
                    flat[:, j * self.size + i] += entry

    def _common(self, a: int) -> list[tuple[int, Array]]:
        return [(int(i), column) for i, column in zip(self._sets[a].index, self._sets[a].columns, strict=True)]

    def _add_power(
        self,
        gradient: Array,
        hessian: Array,
        parts: list[_Part],
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
            entries = (cross * part.share) @ self._sets[a].columns.T
            hessian[:, s, index] += entries
            hessian[:, index, s] += entries

    def jacobian(self, vector: Array) -> Array:
        """∂ log L̂ / ∂ parameters [points, parameters] at one internal vector [parameters], by central differences."""
        step = 1e-6 * np.maximum(np.abs(vector), 1e-3)
        up, down = vector + np.diag(step), vector - np.diag(step)
        jacobian: Array = ((self.log_loss(up) - self.log_loss(down)) / (2.0 * step[:, None])).T
        return jacobian


def lay_out(form: Form, points: Points) -> Layout:
    """The parameter vector of `form` for these points.

    Raises:
        FitError: the points lack a column the form reads.
    """
    missing = [name for name in form.needs if getattr(points, name) is None]
    if missing:
        raise FitError(
            f"law {form.name} reads columns these points do not have",
            got="without " + ", ".join(missing),
            allowed=form.formula,
        )
    lines = tuple(dict.fromkeys(points.line.tolist())) if form.free and points.line is not None else ("",)
    ratios = _ratios(points)
    names: list[str] = []
    limits: dict[str, tuple[float, float]] = {}
    largest = float(points.loss.max())
    base = Layout(form, lines, ratios, (), (), np.empty(0), np.empty(0), largest)
    for term in form.terms:
        coefficient = (np.log(largest) - _LOG_COEFFICIENT, np.log(largest) + _LOG_COEFFICIENT)
        if form.power:
            coefficient = (-700.0, 700.0)
        limits |= dict.fromkeys(base.per_line(term.coefficient), coefficient)
        if isinstance(term.exponent, str):
            limits |= dict.fromkeys(base.per_line(term.exponent), (MIN_EXPONENT, MAX_EXPONENT))
    for term in form.terms:
        if term.stretch:
            limits |= dict.fromkeys(_stretch_names(term, ratios), (term.stretch.lower, term.stretch.upper))
    if form.floor:
        limits |= dict.fromkeys(base.floors, (0.0, 1.0))
    if form.power:
        limits[form.power] = _POWER
    names = list(limits)
    centres = tuple(_centre(form, term, points) for term in form.terms)
    lower, upper = (np.array([limits[name][side] for name in names]) for side in (0, 1))
    return Layout(form, lines, ratios, centres, tuple(names), lower, upper, largest)


def _centre(form: Form, term: Term, points: Points) -> float:
    """Mean log variable; 0 where lines share a coefficient and not its exponent, for it is at 1 that they agree."""
    if term.exponent in form.free and term.coefficient not in form.free:
        return 0.0
    return float(np.log(getattr(points, term.variable)).mean())


def _stretch_names(term: Term, ratios: tuple[float, ...]) -> list[str]:
    assert term.stretch is not None
    return (
        [f"{term.stretch.parameter}@{ratio:g}" for ratio in ratios]
        if term.stretch.per_ratio
        else [term.stretch.parameter]
    )


def _ratios(points: Points) -> tuple[float, ...]:
    """Rank ratios present, ascending; dense (NaN) is not one."""
    if points.rank_ratio is None:
        return ()
    return tuple(np.unique(points.rank_ratio[~np.isnan(points.rank_ratio)]).tolist())


def _line_codes(layout: Layout, points: Points) -> npt.NDArray[np.intp]:
    if not layout.form.free or points.line is None:
        return np.zeros(len(points), dtype=np.intp)
    unknown = sorted(set(points.line.tolist()) - set(layout.lines))
    if unknown:
        raise FitError("these lines were not fitted", got=", ".join(unknown), allowed=", ".join(layout.lines))
    return np.array([layout.lines.index(str(name)) for name in points.line], dtype=np.intp)


def _columns(layout: Layout, term: Term, k: int, points: Points, codes: npt.NDArray[np.intp]) -> Columns:
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
        theta = layout.index(_stretch_names(term, layout.ratios)[0])
    index = np.array([i for i, _ in rows], dtype=np.intp)
    return Columns(index, np.array([column for _, column in rows]), constant, stretched, exponent, theta)


def _exponents(layout: Layout, term: Term) -> list[str]:
    """Exponents that enter z linearly with a column common to all draws."""
    return layout.per_line(term.exponent) if isinstance(term.exponent, str) and term.stretch is None else []
