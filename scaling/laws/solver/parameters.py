"""The parameter vector of a form over some points: names, order, bounds, and the way to and from the reported numbers.

Inside, a coefficient is the log of its term at the centre of the data (which takes the correlation with its exponent
away), a stretch is its θ, and the floor is in units of the largest loss; exponents and the outer power are themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scaling.laws.forms import Form, Term
from scaling.laws.points import Array, Points
from scaling.laws.solver.constraints import settle_constraints

Flags = npt.NDArray[np.bool_]

MIN_EXPONENT, MAX_EXPONENT = 1e-3, 5.0  # assumption: a flatter term is a constant, a steeper one a step
_LOG_COEFFICIENT = 25.0  # assumption: a term at the centre of the data lies within e^±25 of the largest loss
_NEAR = 1e-6  # of a bound: a descent that ends on a relative gain of 1e-14 leaves a parameter uncertain by about 1e-7
_POWER = (5e-3, 5.0)  # assumption; published outer powers are near 0.1


@dataclass(frozen=True)
class Layout:
    """Names, order, bounds and centres of the parameter vector, for the points fitted and the points predicted.

    `fixed` parameters (reported name -> value) stay in the vector with equal bounds; a `tied` one (name -> the name it
    equals) has no place of its own.
    """

    form: Form
    lines: tuple[str, ...]
    ratios: tuple[float, ...]
    centres: tuple[float, ...]
    names: tuple[str, ...]
    lower: Array
    upper: Array
    loss_scale: float
    fixed: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)

    def index(self, name: str) -> int:
        """Position of a parameter in the vector."""
        return self.names.index(self.tied.get(name, name))

    @property
    def free(self) -> Flags:
        """Whether each parameter of the vector was fitted [parameters]; the others are fixed."""
        return np.asarray(self.lower < self.upper, dtype=np.bool_)

    def at_bound(self, vectors: Array) -> Flags:
        """Whether each fitted parameter of internal vectors [..., parameters] ended on a bound.

        Nearer than a descent resolves it counts as on it: else rounding, and so the kind of CPU, would decide whether a
        parameter takes part in the linearised fit, on which noise and intervals rest.
        """
        return ((vectors <= self.lower + _NEAR) | (vectors >= self.upper - _NEAR)) & self.free

    @property
    def constrained(self) -> bool:
        """Whether some parameter was fixed or tied from outside."""
        return bool(self.fixed or self.tied)

    @property
    def free_count(self) -> int:
        """How many numbers were fitted."""
        return int(self.free.sum())

    @property
    def floors(self) -> list[str]:
        """The reported names of the floor; none where the form has none."""
        return self.per_line(self.form.floor) if self.form.floor else []

    def per_line(self, name: str) -> list[str]:
        """The reported names of `name`: one for each line if it is free."""
        return [f"{name}[{line}]" for line in self.lines] if name in self.form.free else [name]

    def in_log(self, name: str) -> bool:
        """Whether a reported parameter is a scale, of which the solver holds the log."""
        plain = name.split("[")[0].split("@")[0]
        stretches = {term.stretch.parameter for term in self.form.terms if term.stretch and term.stretch.in_log}
        return plain in {term.coefficient for term in self.form.terms} | stretches

    def internal(self, name: str, value: float) -> float:
        """A reported parameter as the solver holds it, for a coefficient with its centre at zero."""
        if self.in_log(name):
            return float(np.log(value))
        return value / self.loss_scale if name in self.floors else value

    def natural(self, vector: Array) -> dict[str, Array]:
        """Internal vectors [draws, parameters] -> reported parameters, each [draws]."""
        values = {name: vector[:, j] for j, name in enumerate(self.names)}
        values |= {alias: values[kept] for alias, kept in self.tied.items()}
        for term, centre in zip(self.form.terms, self.centres, strict=True):
            exponents = self.per_line(term.exponent) * len(self.lines) if isinstance(term.exponent, str) else []
            for j, name in enumerate(self.per_line(term.coefficient)):
                exponent = values[exponents[j]] if exponents else float(term.exponent)
                with np.errstate(over="ignore"):
                    values[name] = np.exp(values[name] + centre * exponent)
        for term in self.form.terms:
            if term.stretch and term.stretch.in_log:
                for name in stretch_names(term, self.ratios):
                    values[name] = np.exp(values[name])
        for name in self.floors:
            values[name] = values[name] * self.loss_scale
        if self.tied:
            order = self.form.parameter_names
            values = dict(sorted(values.items(), key=lambda item: order.index(item[0].split("[")[0].split("@")[0])))
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
                values |= {name: float(np.log(values[name])) for name in stretch_names(term, self.ratios)}
        values |= {name: values[name] / self.loss_scale for name in self.floors}
        return np.array([values[name] for name in self.names])


def lay_out(
    form: Form,
    points: Points,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
) -> Layout:
    """The parameter vector of `form` for these points, which have the columns it reads (`identifiability`).

    Args:
        form, points: the law and its data.
        fixed: reported names and values of parameters that are not fitted.
        tied: names of parameters that equal another one, and which.

    Raises:
        FitError: a name that the form does not have, or one that cannot be fixed or tied.
    """
    lines = tuple(dict.fromkeys(points.line.tolist())) if form.free and points.line is not None else ("",)
    ratios = _ratios(points)
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
            limits |= dict.fromkeys(stretch_names(term, ratios), (term.stretch.lower, term.stretch.upper))
    if form.floor:
        limits |= dict.fromkeys(base.floors, (0.0, 1.0))
    if form.power:
        limits[form.power] = _POWER
    ties = dict(tied or {})
    values = dict(fixed or {})
    if values or ties:
        values, ties = settle_constraints(form, tuple(limits), values, ties, float(points.loss.min()))
    held_coefficients = {name.split("[")[0] for name in (*values, *ties, *ties.values())}
    centres = tuple(
        0.0 if term.coefficient in held_coefficients else _centre(form, term, points) for term in form.terms
    )
    for name, value in values.items():
        limits[name] = (held := base.internal(name, value), held)
    names = [name for name in limits if name not in ties]
    lower, upper = (np.array([limits[name][side] for name in names]) for side in (0, 1))
    return Layout(form, lines, ratios, centres, tuple(names), lower, upper, largest, values, ties)


def _centre(form: Form, term: Term, points: Points) -> float:
    """Mean log variable; 0 where lines share a coefficient and not its exponent, for it is at 1 that they agree."""
    if term.exponent in form.free and term.coefficient not in form.free:
        return 0.0
    return float(np.log(getattr(points, term.variable)).mean())


def stretch_names(term: Term, ratios: tuple[float, ...]) -> list[str]:
    """Names of the parameters of a term's stretch, one for each ratio where it has several."""
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
