"""Parameters that are fixed or tied from outside: which names a form allows, and what they become in its vector."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scaling.errors import FitError
from scaling.laws.forms import Form


def settle_constraints(
    form: Form,
    names: tuple[str, ...],
    fixed: Mapping[str, float],
    tied: Mapping[str, str],
    lowest_loss: float,
) -> tuple[dict[str, float], dict[str, str]]:
    """Constraints by the names of the vector: `E` of a joint form is `E[line]` of every line it is free for.

    Args:
        form: the law.
        names: of its parameter vector.
        fixed: name -> value. tied: name -> the name it equals.
        lowest_loss: of the points; a fixed irreducible loss lies below it.

    Raises:
        FitError: a name the form does not have, a value that it cannot take, a pair that cannot be tied.
    """
    ties: dict[str, str] = {}
    for alias, kept in tied.items():
        pairs = list(zip(_expanded(form, names, alias), _expanded(form, names, kept), strict=False))
        for left, right in pairs:
            _refuse_tie(form, left, right)
            ties[left] = right
    if set(ties) & set(ties.values()):
        raise FitError("a parameter is tied twice", got=_listed(ties), allowed="one pair for each parameter")
    values: dict[str, float] = {}
    for name, value in fixed.items():
        for own in _expanded(form, names, name):
            settled = ties.get(own, own)
            if values.setdefault(settled, value) != value:
                raise FitError("tied parameters are fixed to different values", got=f"{name}={value:g}")
            _refuse_value(form, own, value, lowest_loss)
    return values, ties


def _expanded(form: Form, names: tuple[str, ...], name: str) -> list[str]:
    matches = [own for own in names if name in (own, own.split("[")[0], own.split("@")[0])]
    if form.rename:  # such a law reports other numbers than it fits; only the ones under the same name can be held
        matches = [own for own in matches if own == form.power]
    if not matches:
        allowed = [form.power] if form.rename and form.power else names
        raise FitError(f"law {form.name} has no such parameter to fix or tie", got=name, allowed=", ".join(allowed))
    return matches


def _refuse_value(form: Form, name: str, value: float, lowest_loss: float) -> None:
    is_floor = name.split("[")[0] == form.floor
    good = np.isfinite(value) and (0.0 <= value < lowest_loss if is_floor else value > 0.0)
    if not good:
        allowed = f"at least 0 and below the lowest loss, {lowest_loss:g}" if is_floor else "a positive number"
        raise FitError("a parameter cannot be fixed there", got=f"{name}={value:g}", allowed=allowed)


def _refuse_tie(form: Form, left: str, right: str) -> None:
    coefficients = {term.coefficient for term in form.terms}
    exponents = {term.exponent for term in form.terms}
    plain = {name.split("[")[0] for name in (left, right)}
    if left == right or not (plain <= coefficients or plain <= exponents):
        raise FitError(
            "these parameters cannot be tied",
            got=f"{left}={right}",
            allowed="two exponents, or two coefficients, of one law",
        )


def _listed(tied: Mapping[str, str]) -> str:
    return ", ".join(f"{alias}={kept}" for alias, kept in tied.items())
