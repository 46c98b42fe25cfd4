"""The parameter vector of a form over some points: names, order, bounds, and the way to and from the reported numbers.

Inside, a coefficient is the log of its term at the centre of the data (which takes the correlation with its exponent
away), a stretch is its θ, and the floor is in units of the largest loss; exponents and the outer power are themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.laws.forms import Form, Term
from scaling.laws.points import Array, Points

MIN_EXPONENT, MAX_EXPONENT = 1e-3, 5.0  # assumption: a flatter term is a constant, a steeper one a wall
_LOG_COEFFICIENT = 25.0  # assumption: a term at the centre of the data lies within e^±25 of the largest loss
_POWER = (5e-3, 5.0)  # assumption; published outer powers are near 0.1


@dataclass(frozen=True)
class Layout:
    """Names, order, bounds and centres of the parameter vector, for the points fitted and the points predicted."""

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

    def in_log(self, name: str) -> bool:
        """Whether a reported parameter is a scale, of which the solver holds the log."""
        plain = name.split("[")[0].split("@")[0]
        stretches = {term.stretch.parameter for term in self.form.terms if term.stretch and term.stretch.in_log}
        return plain in {term.coefficient for term in self.form.terms} | stretches

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
                for name in stretch_names(term, self.ratios):
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
                values |= {name: float(np.log(values[name])) for name in stretch_names(term, self.ratios)}
        values |= {name: values[name] / self.loss_scale for name in self.floors}
        return np.array([values[name] for name in self.names])


def lay_out(form: Form, points: Points) -> Layout:
    """The parameter vector of `form` for these points, which have the columns it reads (`identify`)."""
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
            limits |= dict.fromkeys(stretch_names(term, ratios), (term.stretch.lower, term.stretch.upper))
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
