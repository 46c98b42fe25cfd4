"""Which laws a set of points can determine at all.

A power term c·x^-e beside a floor has three numbers in one variable, so it takes three values of that variable. On
one compute budget N and D move together, and every split of the loss between them fits. What is only weakly
determined is fitted and reported (`Fit.status`, `checks`); what is not determined is refused here, with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from scaling.errors import FitError
from scaling.laws.forms import Form
from scaling.laws.points import Array, Points
from scaling.laws.solver.parameters import Layout

MIN_BUDGETS = 3
MIN_BUDGETS_FOR_FLOOR = 5  # assumption: docs/design.md, "Laws and fits": the floor of a one-variable power law
MIN_SPAN = 2.0  # assumption: below it a term with an exponent of .35 changes by less than 22 %
MIN_RATIO_SPAN = 1.5  # assumption: at one ratio N and D move together along one line
PLAUSIBLE = (0.01, 2.0)  # effective exponents of N, D or C; published ones lie between .05 and .9
_SYMBOLS = {"params": "N", "tokens": "D", "compute": "C"}
SAME_COMPUTE = (
    0.02  # compute levels closer than this (in log) are one budget: rounding to whole batches moves them by up to 1 %
)


def levels(values: Array, tolerance: float = 1e-9) -> int:
    """How many different values there are, those within `tolerance` of each other in log counted once."""
    ordered = np.sort(np.log(values))
    return 1 + int((np.diff(ordered) > tolerance).sum())


def budget_levels(points: Points) -> int:
    """How many compute budgets the points lie on (by `budget`, else by compute within 2 %)."""
    return levels(points.budget) if points.budget is not None else levels(points.compute, SAME_COMPUTE)


def too_narrow(form: Form, points: Points, fixed: Mapping[str, float]) -> str | None:
    """Why the points vary too little to determine an exponent of `form`, whatever draws of them say; None if not."""
    fitted = [term for term in form.terms if isinstance(term.exponent, str) and term.exponent not in fixed]
    for term in fitted:
        symbol = _SYMBOLS[term.variable]
        spans = factor(getattr(points, term.variable))
        if spans < MIN_SPAN:
            return f"{symbol} spans a factor {spans:.3g}: {term.exponent} is not identified (at least {MIN_SPAN:g})"
    ratio = factor(points.tokens / points.params)
    if len(fitted) > 1 and ratio < MIN_RATIO_SPAN:
        return (
            f"D/N spans a factor {ratio:.3g}: the terms of N and D cannot be told apart (at least {MIN_RATIO_SPAN:g})"
        )
    return None


def factor(values: Array) -> float:
    """Largest over smallest."""
    return float(values.max() / values.min())


def implausible_exponent(layout: Layout, vector: Array) -> str | None:
    """Why an exponent of the vector is that of no scaling law (a step, or a constant); None if all are plausible."""
    form = layout.form
    power = vector[layout.index(form.power)] if form.power else 1.0
    for term in form.terms:
        for name in layout.per_line(term.exponent) if isinstance(term.exponent, str) else []:
            if name in layout.fixed or layout.tied.get(name) in layout.fixed:
                continue
            value = float(power * vector[layout.index(name)])
            if not PLAUSIBLE[0] <= value <= PLAUSIBLE[1]:
                kind = "a step, not a power law" if value > PLAUSIBLE[1] else "a term that does not vary"
                return (
                    f"loss falls as {_SYMBOLS[term.variable]}^-{value:.3g}: {kind}; the points do not determine {name}"
                )
    return None


def settle_form(form: Form, points: Points) -> Form:
    """The form that will be fitted: one of a single term has E held at zero below five budgets."""
    alone = len(form.terms) == 1
    return form.without_floor() if alone and form.floor and budget_levels(points) < MIN_BUDGETS_FOR_FLOOR else form


def refuse_unidentified(form: Form, points: Points, held: frozenset[str] = frozenset()) -> None:
    """Raises `FitError` where `form` has parameters that `points` do not determine; the parameters
    `held` are fixed from outside, and a term of which both are asks nothing of the points.
    """
    missing = [name for name in form.needs if getattr(points, name) is None]
    if missing:
        raise FitError(
            f"law {form.name} reads columns these points do not have",
            got="without " + ", ".join(missing),
            allowed=form.formula,
        )
    if levels(points.loss) < 2:
        raise FitError("every point has the same loss: there is nothing to fit", got=f"{points.loss[0]:g} throughout")
    fitted = [term for term in form.terms if not {term.coefficient, term.exponent} <= held]
    for term in fitted:
        count = levels(getattr(points, term.variable))
        wanted = 3 if form.floor or len(form.terms) > 1 else 2
        if isinstance(term.exponent, str) and term.exponent not in held and count < wanted:
            raise FitError(
                f"{term.exponent} cannot be told from a constant",
                where=f"column {term.variable}",
                got=f"{count} different value{'s' if count > 1 else ''}",
                allowed=f"at least {wanted}",
            )
    if len(fitted) > 1 and (budgets := budget_levels(points)) < MIN_BUDGETS:
        raise FitError(
            "parameters and tokens move together on so few compute budgets: their terms cannot be told apart",
            got=f"{budgets} compute budget{'s' if budgets > 1 else ''}",
            allowed=f"at least {MIN_BUDGETS}",
            hint="add a budget; approach 2 still gives the optimum of each one",
        )
    if form.name == "rank":
        _refuse_rank(points)
    if form.name == "rank_power":
        _refuse_rank_power(points)
    if form.free:
        _refuse_lines(form, points)


def _refuse_rank(points: Points) -> None:
    assert points.rank_ratio is not None
    dense = bool(np.isnan(points.rank_ratio).any())
    ratios = np.unique(points.rank_ratio[~np.isnan(points.rank_ratio)])
    if not len(ratios):
        raise FitError(
            "law rank asks what a factorized parameter is worth, and every point is dense", allowed="a low-rank line"
        )
    if not dense and len(ratios) < 2:
        raise FitError(
            "kappa and A cannot be told apart from one rank ratio without a dense line",
            got=f"rank ratio {ratios[0]:g} alone",
            allowed="a dense line, or a second rank ratio",
        )


def _refuse_rank_power(points: Points) -> None:
    assert points.relative_rank is not None
    ratios = np.unique(np.round(points.relative_rank[points.relative_rank < 1.0], 6))
    if points.rank_ratio is not None:
        ratios = np.unique(points.rank_ratio[~np.isnan(points.rank_ratio)])
    if len(ratios) < 3:
        raise FitError(
            "gamma is a slope over rank ratios",
            got=f"{len(ratios)} rank ratio{'' if len(ratios) == 1 else 's'}",
            allowed="at least 3; law rank gives a kappa per ratio",
        )


def _refuse_lines(form: Form, points: Points) -> None:
    lines = points.lines()
    if len(lines) < 2:
        raise FitError("a joint law shares parameters between lines", got="one line", allowed="at least two lines")
    for name, own in lines.items():
        try:
            refuse_unidentified(replace(form, free=(), needs=()), own)
        except FitError as error:
            if set(form.parameter_names) == set(form.free):
                raise FitError(error.what, where=f"line {name}", got=error.got, allowed=error.allowed) from error
