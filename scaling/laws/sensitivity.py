"""How much of a law is choice rather than data: other objectives, the floor free or held at zero, other approaches.

The *form range* is the min–max of a prediction over those choices. Far beyond the data it is the largest error of a
law, and no bootstrap sees it, because every draw shares the form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scaling.errors import FitError
from scaling.laws.determination import NotDetermined
from scaling.laws.fitting import Fit, Status, fit
from scaling.laws.forms import Form, form_named
from scaling.laws.frontier import FlopsPerToken, frontier
from scaling.laws.isoflop import IsoFlop
from scaling.laws.points import Points

ROW: tuple[tuple[str, float | None], ...] = (
    ("log_huber", 1e-4),
    ("log_huber", 1e-3),
    ("log_huber", 1e-2),
    ("log_mse", None),
)


@dataclass(frozen=True)
class Alternative:
    """One way to make the fit, and the exponents it gives."""

    objective: str
    delta: float | None
    exponents: dict[str, float]
    status: Status


def objective_row(
    points: Points,
    law: str | Form = "chinchilla",
    *,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
) -> tuple[Alternative, ...]:
    """Exponents at δ 1e-4, 1e-3, 1e-2 and under `log_mse`, as printed beside every fit."""
    choices = []
    for name, delta in ROW:
        result = fit(points, law, objective=name, delta=delta, fixed=fixed, tied=tied)
        choices.append(Alternative(name, delta, result.exponents, result.status))
    return tuple(choices)


@dataclass(frozen=True)
class FormRange:
    """Min–max of compute-optimal N, D and loss at `compute` over `members` (label -> values)."""

    compute: float
    members: dict[str, dict[str, float]]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Name -> (smallest, largest) over the members that give it."""
        names = dict.fromkeys(name for values in self.members.values() for name in values)
        values_of = {name: [values[name] for values in self.members.values() if name in values] for name in names}
        return {name: (min(values), max(values)) for name, values in values_of.items()}


def form_range(
    fitted: Fit,
    compute: float,
    *,
    isoflop: IsoFlop | None = None,
    flops_per_token: FlopsPerToken | None = None,
    params_range: tuple[float, float] | None = None,
) -> FormRange:
    """Predictions at `compute` over objectives, E free or zero, and approach 2 where it is given.

    A variant that these points do not determine, or whose optimum is at the edge of the sizes searched, is left out.
    """
    form = form_named(fitted.form)
    fixed, tied = fitted.layout.fixed, fitted.layout.tied
    variants = {
        f"{fitted.law}, {name}" + (f" δ {delta:g}" if delta else ""): (form, name, delta) for name, delta in ROW
    }
    if form.floor and form.floor not in fixed:
        variants[f"{fitted.law} with E = 0"] = (form.without_floor(), fitted.objective, fitted.delta)
    if form.name == "chinchilla":
        variants["kaplan"] = (form_named("kaplan"), fitted.objective, fitted.delta)
    members: dict[str, dict[str, float]] = {}
    for label, (variant, name, delta) in variants.items():
        own = variant.name == form.name
        try:
            result = fit(
                fitted.points,
                variant,
                objective=name,
                delta=delta,
                fixed=fixed if own else None,
                tied=tied if own else None,
            )
        except FitError:
            continue
        best = frontier(result, flops_per_token=flops_per_token, params_range=params_range).answer(compute)
        if isinstance(best, NotDetermined):
            continue
        members[label] = {"N": best.params, "D": best.tokens, "loss": best.loss}
    if isoflop is not None and isoflop.exponents:
        members[f"approach 2, {isoflop.curve}"] = isoflop.at(compute)
    return FormRange(compute, members)
