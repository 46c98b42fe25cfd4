"""One law, one set of points, the global optimum: `fit`.

The grid of `solver.start_grid` finds the basins, `solver.newton` polishes the best of them on the exact objective, and
the result says how it got there: whether a parameter ended at a bound, how well conditioned the problem is, and how
many of the polished starts agree. A fit is a value with a status and a message; only points from which a law cannot be
identified at all raise (`solver.identifiability`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from scaling.errors import FitError
from scaling.laws.forms import Form, form_named
from scaling.laws.objectives import Delta, Objective, automatic_width, objective_named
from scaling.laws.points import Array, Points, Range
from scaling.laws.solver.identifiability import implausible_exponent, refuse_unidentified, settle_form, too_narrow
from scaling.laws.solver.newton import Descent, descend
from scaling.laws.solver.objective_terms import System
from scaling.laws.solver.parameters import Layout, lay_out
from scaling.laws.solver.start_grid import starts

Status = Literal["ok", "at_bound", "degenerate", "not_converged"]

# How many grid nodes are polished: (250/points)², within these. Few points under a Huber loss make many small valleys,
# many points make one. Measured against SciPy's best of 200 starts in benchmarks/laws.py.
_SCANNED = 4_000  # points, evenly over a table, on which the grid of starts is scanned; starts descend on all points
_POLISHED_AT, _POLISHED = 250.0, (3, 64)
_POLISH_STEPS = 25  # for all of them; the best then goes on to the end
_AGREE = 1e-7  # relative difference of objectives below which two starts reached the same optimum
DEGENERATE_CONDITION = 3e4  # of the Jacobian with unit columns: beyond it a relative error of 1e-3 hides a parameter


@dataclass(frozen=True, eq=False)
class Fit:
    """A law with its numbers.

    Attributes:
        law: name of the form; `form` is the form itself.
        objective: name of the objective; `delta` its Huber width (None for the squared ones).
        parameters: reported parameters by name (`A`, `alpha`, …; `A[dense]` or `kappa@0.25` where there are several).
        objective_value: the objective at the optimum, summed over points.
        status: `ok`; `at_bound` (a parameter ended at a bound); `degenerate` (the points do not determine the
            parameters: by the condition number, by a range of N, D or D/N that is too narrow, or by an exponent that
            no term of a law has); `not_converged`.
        message: one sentence for a person.
        bounds_hit: reported names of the parameters at a bound.
        condition_number: of the Jacobian of log L̂ with columns scaled to one.
        starts_agreement: of the polished starts that came to rest, the share that did so at the best objective.
        residuals: log L − log L̂ of each point.
        points: the points fitted.
        vector, layout: the same parameters as the solver holds them.
        automatic_delta: whether `delta` was taken from the residuals.
    """

    law: str
    form: Form
    objective: str
    delta: float | None
    parameters: dict[str, float]
    objective_value: float
    status: Status
    message: str
    bounds_hit: tuple[str, ...]
    condition_number: float
    starts_agreement: float
    residuals: Array
    points: Points
    vector: Array
    layout: Layout
    automatic_delta: bool = False

    @cached_property
    def exponents(self) -> dict[str, float]:
        """Exponents of N and D in C under C ∝ N·D, closed form; with free exponents one pair per line (`N[dense]`)."""
        return {name: float(value[0]) for name, value in exponents_of(self.layout, self.vector[None]).items()}

    @property
    def range(self) -> Range:
        """N, D and D/N of the points."""
        return self.points.range

    @cached_property
    def sigma_log(self) -> float:
        """Residual standard deviation of log loss, corrected for the parameters fitted."""
        freedom = max(1, len(self.points) - self.layout.free_count)
        return float(np.sqrt((self.residuals**2).sum() / freedom))

    def predict(self, points: Points) -> Array:
        """Loss of the law at other points [n] (their own losses are not read)."""
        loss: Array = np.exp(System(self.layout, points).log_loss(self.vector[None])[0])
        return loss

    def loss(self, params: Array | float, tokens: Array | float, compute: Array | float | None = None) -> Array:
        """Loss at (N, D) for a law without lines and stretches, in the unit of the fitted losses.

        `compute` is read by the `power` law alone; None is 6·N·D.
        """
        n, d = np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)
        return self.form.loss(self.parameters, n, d, None if compute is None else np.asarray(compute, dtype=float))


def fit(
    points: Points,
    law: str | Form = "chinchilla",
    *,
    objective: str = "log_huber",
    delta: Delta | None = None,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
    polished: int | None = None,
    near: Fit | None = None,
) -> Fit:
    """The global optimum of `law` on `points`.

    Args:
        points: at least as many as the law has parameters.
        law: a name in `forms.FORMS`, or a `Form` (for example `forms.joint(shared=...)`).
        objective: `log_huber`, `log_mse`, `mse` or `huber`.
        delta: Huber width; `auto` takes it from the residuals, in two passes; None for 1e-3.
        fixed: parameters that are not fitted, with their values (`{"E": 1.69}`); of a law over lines, a plain name
            holds the parameter of every line. Of `kaplan` only `alpha_D` can be held.
        tied: parameters that equal another one (`{"alpha": "beta"}`): two exponents or two coefficients.
        polished: grid nodes polished; None is 3, and more below 100 points.
        near: a fit of nearly the same points, whose parameters are then the only start: fast, and local.

    Raises:
        FitError: the law cannot be identified from these points; the message says why and what would do.
    """
    form = form_named(law)
    if not fixed or form.floor not in fixed:
        form = settle_form(form, points)
    refuse_unidentified(form, points, held=frozenset(fixed or ()))
    chosen = objective_named(objective, None if delta == "auto" else delta)
    layout = lay_out(form, points, fixed, tied)
    if len(points) < layout.free_count:
        names = [name for name, free in zip(layout.names, layout.free, strict=True) if free]
        raise FitError(
            f"law {form.name} has more parameters than there are points",
            got=f"{len(points)} points",
            allowed=f"at least {len(names)}, one for each of {', '.join(names)}",
        )
    if not layout.free_count:
        raise FitError("every parameter is fixed: there is nothing to fit", got=", ".join(layout.names))
    system = System(layout, points)
    count = polished or int(np.clip((_POLISHED_AT / len(points)) ** 2, *_POLISHED))
    start = layout.vector(near.parameters)[None] if near else _starts(system, chosen, count)
    result = _result(form, chosen, system, _polish(system, start, chosen))
    if delta != "auto" or chosen.delta is None:
        return result
    for last in (False, True):
        width = automatic_width(_residual(result, chosen), layout.free_count)
        chosen = objective_named(objective, width)
        start = result.vector[None]
        if last and not near:
            start = np.concatenate([start, _starts(system, chosen, count)])
        result = _result(form, chosen, system, _polish(system, start, chosen))
    return replace(result, automatic_delta=True)


def _residual(made: Fit, chosen: Objective) -> Array:
    """Residuals in the unit of the objective."""
    return made.residuals if chosen.in_log else made.points.loss * -np.expm1(-made.residuals)


def _starts(system: System, chosen: Objective, count: int) -> Array:
    """Grid nodes to polish [k, P]; for a joint form also each line fitted alone."""
    layout, points = system.layout, system.points
    if len(points) > _SCANNED and not layout.form.free:
        points = points.select(np.linspace(0, len(points) - 1, _SCANNED).round().astype(np.intp))
        system = System(layout, points)
    start = starts(system, chosen, target_of(chosen, points.loss), points.weights, count)
    if layout.form.free and not layout.fixed and not layout.tied:
        start = np.concatenate([start, _separate_start(system, layout.form, chosen)])
    return start


def _polish(system: System, start: Array, chosen: Objective) -> Descent:
    """All starts descended a while, the best of them to the end."""
    target, weight = target_of(chosen, system.points.loss), system.points.weights
    ends = descend(system, start, chosen, target, weight, steps=_POLISH_STEPS)
    best = [int(np.argmin(ends.value))]
    if not ends.converged[best[0]]:
        last = descend(system, ends.vector[best], chosen, target, weight)
        for all_ends, own in zip(ends, last, strict=True):
            all_ends[best] = own
    return ends


def target_of(chosen: Objective, loss: Array) -> Array:
    """Losses as the objective compares them: log loss, or loss."""
    return np.log(loss) if chosen.in_log else loss


def exponents_of(layout: Layout, vectors: Array) -> dict[str, Array]:
    """Exponents of compute-optimal N and D in C under C ∝ N·D for internal vectors [R, P]; empty without both terms.

    Minimising A·N^−α + B·D^−β at fixed N·D gives N ∝ C^(β/(α+β)) (Hoffmann et al., eq. 4), with or without an outer
    power.
    """
    by_variable = {term.variable: term for term in layout.form.terms}
    if not {"params", "tokens"} <= set(by_variable):
        return {}
    names = [_names(layout, by_variable[variable].exponent) for variable in ("params", "tokens")]
    count = max(len(group) for group in names)
    result: dict[str, Array] = {}
    for j in range(count):
        alpha, beta = (_exponent(layout, vectors, group[j % len(group)]) for group in names)
        suffix = f"[{layout.lines[j]}]" if count > 1 else ""
        result |= {f"N{suffix}": beta / (alpha + beta), f"D{suffix}": alpha / (alpha + beta)}
    return result


def _names(layout: Layout, exponent: str | float) -> list[str | float]:
    return [*layout.per_line(exponent)] if isinstance(exponent, str) else [exponent]


def _exponent(layout: Layout, vectors: Array, name: str | float) -> Array:
    return vectors[:, layout.index(name)] if isinstance(name, str) else np.full(len(vectors), name)


def _separate_start(system: System, form: Form, chosen: Objective) -> Array:
    """A start for a joint form: each line fitted alone, shared parameters averaged over lines."""
    layout = system.layout
    single = replace(form, free=(), needs=())
    found: dict[str, list[float]] = {}
    for line, points in system.points.lines().items():
        own = lay_out(single, points)
        own = replace(own, centres=layout.centres, loss_scale=layout.loss_scale)
        if len(points) < len(own.names):
            return np.empty((0, system.size))
        alone = System(own, points)
        target = target_of(chosen, points.loss)
        best = descend(alone, starts(alone, chosen, target, points.weights, 2), chosen, target, points.weights)
        for name, value in zip(own.names, best.vector[np.argmin(best.value)], strict=True):
            found.setdefault(f"{name}[{line}]" if name in form.free else name, []).append(float(value))
    return np.array([[float(np.mean(found[name])) for name in layout.names]])


def _result(form: Form, chosen: Objective, system: System, ends: Descent) -> Fit:
    best = int(np.argmin(ends.value))
    vector, value = ends.vector[best], float(ends.value[best])
    layout, points = system.layout, system.points
    at_bound = layout.at_bound(vector)
    jacobian = system.jacobian(vector)
    condition = _condition(jacobian[:, layout.free & ~at_bound])
    arrived = ends.value <= value * (1.0 + _AGREE) + 1e-24 * len(points)
    agreement = float(arrived.sum() / (arrived | ends.converged).sum())
    residuals = np.log(points.loss) - system.log_loss(vector[None])[0]
    bounds_hit = tuple(name for name, hit in zip(layout.names, at_bound, strict=True) if hit)
    freedom = len(points) - layout.free_count
    status, message = _verdict(bool(ends.converged[best]), bounds_hit, condition, freedom, layout)
    narrow = too_narrow(form, points, layout.fixed) or implausible_exponent(layout, vector)
    if narrow and status in ("ok", "at_bound"):
        status, message = "degenerate", narrow
    parameters = {name: float(number[0]) for name, number in layout.natural(vector[None]).items()}
    return Fit(
        law=form.name,
        form=form,
        objective=chosen.name,
        delta=chosen.delta,
        parameters=parameters,
        objective_value=value,
        status=status,
        message=message,
        bounds_hit=bounds_hit,
        condition_number=condition,
        starts_agreement=agreement,
        residuals=residuals,
        points=points,
        vector=vector,
        layout=layout,
    )


def _condition(jacobian: Array) -> float:
    """Condition number of `jacobian` [n, P] with its columns scaled to one; infinite where a column is zero."""
    norms = np.sqrt((jacobian**2).sum(axis=0))
    if not norms.size or not np.isfinite(norms).all() or (norms == 0.0).any():
        return float("inf")
    singular = np.linalg.svd(jacobian / norms, compute_uv=False)
    return float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf")


def _verdict(
    converged: bool, bounds_hit: tuple[str, ...], condition: float, freedom: int, layout: Layout
) -> tuple[Status, str]:
    if not converged:
        return "not_converged", "the solver stopped before the gradient vanished; the parameters are not an optimum"
    if condition > DEGENERATE_CONDITION:
        return "degenerate", f"the points do not determine the parameters (condition number {condition:.1e})"
    if freedom == 0:
        return (
            "degenerate",
            "as many parameters as points: the law passes through all of them and says nothing of its error",
        )
    if bounds_hit:
        return "at_bound", "at a bound: " + ", ".join(_bound_text(layout, name) for name in bounds_hit)
    return "ok", f"converged; condition number {condition:.0f}"


def _bound_text(layout: Layout, name: str) -> str:
    if name.split("[")[0] == layout.form.floor:
        return f"{name} = 0, no irreducible loss can be told from these points"
    return f"{name}, the term is not told apart from the rest"
