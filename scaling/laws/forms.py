"""Parametric forms of a law, as data.

Every form here is *separable*: a floor and a sum of power terms, the sum perhaps raised to a power,

    L = E + ( Σ_k  coefficient_k · variable_k ^ -exponent_k ) ^ power

so for fixed exponents, power and (where there is a power) floor the rest is linear with non-negativity, which is what
makes a global fit cheap (`solver.start_grid`). A
variable may be *stretched*: replaced by an effective one with one parameter of its own (what a factorized parameter
is worth, how fast repeated tokens wear out). Adding a form is adding a `Form` to `FORMS`, and a test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from scaling.errors import FitError

if TYPE_CHECKING:  # NumPy loads inside the functions that compute: a sweep file is checked against the names alone
    from scaling.laws.points import Array, Indices, Points

Values = dict[str, float]


class Effective(NamedTuple):
    """log of an effective variable and its first two derivatives in the stretch parameter θ; all [draws, points]."""

    log_value: Array
    first: Array
    second: Array


class Stretched(NamedTuple):
    """A stretch laid over points: θ_i = slope_i · (stretch parameter of group_i), and `effective(θ)`."""

    group: Indices
    slope: Array
    effective: Callable[[Array], Effective]


@dataclass(frozen=True)
class Stretch:
    """An effective variable with one fitted parameter θ per point (in several groups, if `per_ratio`).

    Args:
        parameter: its name as reported.
        in_log: whether θ is the log of the reported parameter.
        per_ratio: one parameter per rank ratio, named `kappa@0.25`.
        lower, upper: bounds of θ.
        lay: points and rank ratios -> `Stretched`.
    """

    parameter: str
    in_log: bool
    per_ratio: bool
    lower: float
    upper: float
    lay: Callable[[Points, tuple[float, ...]], Stretched]


@dataclass(frozen=True)
class Term:
    """`coefficient · variable^-exponent`; a number as exponent is fixed. `variable` is a field of `Points` or
    `compute`.
    """

    coefficient: str
    exponent: str | float
    variable: str
    stretch: Stretch | None = None


@dataclass(frozen=True)
class Form:
    """A law without its numbers.

    Args:
        name: as written in `analysis.law`.
        formula: for people.
        source: where the form comes from.
        terms: the power terms.
        floor: name of the irreducible loss, None where the form has none (or it is held at 0).
        power: name of the power that the sum of terms is raised to, None where it is 1.
        needs: fields of `Points` the form reads beyond params, tokens and loss.
        free: parameters that each line has for itself (`joint`); the others are shared.
        rename: fitted values -> the names and units of the source; `restore` is its inverse.
    """

    name: str
    formula: str
    source: str
    terms: tuple[Term, ...]
    floor: str | None = "E"
    power: str | None = None
    needs: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    rename: Callable[[Mapping[str, Array]], dict[str, Array]] | None = None
    restore: Callable[[Mapping[str, float]], Values] | None = None

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters of one line, in order of solving; a per-ratio stretch appears once."""
        names: list[str] = []
        for term in self.terms:
            names.append(term.coefficient)
            if isinstance(term.exponent, str):
                names.append(term.exponent)
        names += [term.stretch.parameter for term in self.terms if term.stretch]
        return tuple(
            dict.fromkeys([*names, *([self.floor] if self.floor else []), *([self.power] if self.power else [])])
        )

    @property
    def spans_lines(self) -> bool:
        """Whether the law is fitted to all lines at once (its parameters say how lines differ)."""
        return bool({"line", "rank_ratio", "relative_rank"} & set(self.needs))

    def without_floor(self) -> Form:
        """The same form with E held at zero (one end of the form range)."""
        return replace(self, floor=None)

    def loss(
        self, parameters: Mapping[str, float], params: Array, tokens: Array, compute: Array | None = None
    ) -> Array:
        """Loss by the formula, for a form without stretches and lines, from reported parameters; nats, shape of
        `params`.
        """
        import numpy as np

        values = self.restore(parameters) if self.restore else dict(parameters)
        columns = {"params": params, "tokens": tokens, "compute": 6.0 * params * tokens if compute is None else compute}
        floor = values.get(self.floor or "", 0.0)
        total = np.full(np.broadcast(params, tokens).shape, 0.0 if self.power else floor)
        for term in self.terms:
            exponent = values[term.exponent] if isinstance(term.exponent, str) else term.exponent
            total = total + values[term.coefficient] * columns[term.variable] ** -exponent
        return floor + total ** values[self.power] if self.power else total


def _factorized(points: Points, index: Indices, slope: Array) -> Stretched:
    """N_eff = N_plain + κ·N_fact with log κ = θ."""
    import numpy as np

    assert points.factorized_params is not None
    plain, factorized = points.params - points.factorized_params, points.factorized_params

    def effective(theta: Array) -> Effective:
        worth = np.exp(theta) * factorized
        total = plain + worth
        share = worth / total
        return Effective(np.log(total), share, share * (1.0 - share))

    return Stretched(index, slope, effective)


def _kappa(points: Points, ratios: tuple[float, ...]) -> Stretched:
    """One κ per rank ratio, 1 for dense (θ = 0 there, by a slope of 0)."""
    import numpy as np

    assert points.rank_ratio is not None
    index = np.zeros(len(points), dtype=np.intp)
    slope = np.zeros(len(points))
    for j, value in enumerate(ratios):
        index[points.rank_ratio == value], slope[points.rank_ratio == value] = j, 1.0
    return _factorized(points, index, slope)


def _kappa_power(points: Points, ratios: tuple[float, ...]) -> Stretched:
    """κ = ρ^γ with ρ the mean of r/min(in, out): θ = γ·log ρ, zero for dense."""
    import numpy as np

    assert points.relative_rank is not None
    return _factorized(points, np.zeros(len(points), dtype=np.intp), np.log(points.relative_rank))


def _repeated(used: str, unique: str) -> Callable[[Points, tuple[float, ...]], Stretched]:
    """x' = U·(1 + R*·(1 − e^(−R/R*))) with R = x/U − 1 repetitions and θ = log R* (2305.16264, eq. 5 and 6)."""

    def lay(points: Points, ratios: tuple[float, ...]) -> Stretched:
        import numpy as np

        first = getattr(points, unique)
        repetitions = np.maximum(getattr(points, used) / first - 1.0, 0.0)
        base = np.log(np.minimum(first, getattr(points, used)))

        def effective(theta: Array) -> Effective:
            scale = np.exp(theta)
            wear = repetitions / scale
            left = np.exp(-wear)
            value = 1.0 + scale * -np.expm1(-wear)
            slope = scale * (-np.expm1(-wear) - wear * left) / value
            bend = scale * (-np.expm1(-wear) - wear * left - wear * wear * left) / value
            return Effective(base + np.log(value), slope, bend - slope * slope)

        return Stretched(np.zeros(len(points), dtype=np.intp), np.ones(len(points)), effective)

    return lay


_LOG_KAPPA = (
    math.log(1e-3),
    math.log(1e2),
)  # assumption: a factorized parameter is worth .001 to 100 plain ones
_LOG_REPEATS = (math.log(0.05), math.log(1e4))  # assumption: tokens wear out within .05 to 10,000 repetitions


_LARGEST_LOG = 690.0  # of N_c: an exponent near zero would put it beyond what a number holds


def _kaplan_names(values: Mapping[str, Array]) -> dict[str, Array]:
    """(u/N^μ + v/D)^s -> N_c = u^(1/μ), D_c = v, alpha_D = s, alpha_N = μ·s."""
    import numpy as np

    return {
        "N_c": np.exp(np.clip(np.log(values["A"]) / values["mu"], -_LARGEST_LOG, _LARGEST_LOG)),
        "alpha_N": values["mu"] * values["alpha_D"],
        "D_c": values["B"],
        "alpha_D": values["alpha_D"],
    }


def _kaplan_values(names: Mapping[str, float]) -> Values:
    mu = names["alpha_N"] / names["alpha_D"]
    return {"A": names["N_c"] ** mu, "mu": mu, "B": names["D_c"], "alpha_D": names["alpha_D"]}


_MODEL = Term("A", "alpha", "params")
_DATA = Term("B", "beta", "tokens")

CHINCHILLA = Form("chinchilla", "L = E + A/N^alpha + B/D^beta", "Hoffmann et al. 2203.15556, eq. (2)", (_MODEL, _DATA))
POWER = Form("power", "L = E + K/C^gamma", "Henighan et al. 2010.14701, eq. (1.1)", (Term("K", "gamma", "compute"),))
KAPLAN = Form(
    "kaplan",
    "L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
    "Kaplan et al. 2001.08361, eq. (1.5)",
    (Term("A", "mu", "params"), Term("B", 1.0, "tokens")),
    floor=None,
    power="alpha_D",
    rename=_kaplan_names,
    restore=_kaplan_values,
)
SKALING = Form(
    "skaling",
    "L = E + (A/N^alpha + B/D^beta)^k",
    "OpenEuroLLM dense_english_scaling_laws 781af43: chinchilla at k = 1, kaplan at E = 0 and beta = 1",
    (_MODEL, _DATA),
    power="k",
)
RANK = Form(
    "rank",
    "L = E + A/(N_plain + kappa N_fact)^alpha + B/D^beta, kappa = 1 for dense",
    "this project: what a factorized parameter is worth; compare 2502.16440",
    (replace(_MODEL, stretch=Stretch("kappa", True, True, *_LOG_KAPPA, _kappa)), _DATA),
    needs=("factorized_params", "rank_ratio"),
)
RANK_POWER = Form(
    "rank_power",
    "L = E + A/(N_plain + rho^gamma N_fact)^alpha + B/D^beta",
    "this project: kappa as a power of the relative rank",
    (replace(_MODEL, stretch=Stretch("gamma", False, False, -6.0, 6.0, _kappa_power)), _DATA),
    needs=("factorized_params", "relative_rank"),
)
DATA_CONSTRAINED = Form(
    "data_constrained",
    "L = E + A/N'^alpha + B/D'^beta, D' = U(1 + R*(1 - e^(-R/R*)))",
    "Muennighoff et al. 2305.16264, eq. (5) and (6)",
    (
        replace(_MODEL, stretch=Stretch("R_N", True, False, *_LOG_REPEATS, _repeated("params", "unique_params"))),
        replace(_DATA, stretch=Stretch("R_D", True, False, *_LOG_REPEATS, _repeated("tokens", "unique_tokens"))),
    ),
    needs=("unique_tokens", "unique_params"),
)


def joint(base: Form = CHINCHILLA, shared: tuple[str, ...] = ("alpha", "beta", "E")) -> Form:
    """`base` over several lines at once: `shared` parameters have one value, the others one per line.

    Raises:
        FitError: a name that is not a parameter of `base`, or a form that has a parameter per line already.
    """
    names = base.parameter_names
    unknown = [name for name in shared if name not in names]
    if unknown or base.rename or any(term.stretch for term in base.terms):
        raise FitError(
            f"{base.name} cannot share these parameters between lines",
            got=", ".join(shared),
            allowed=", ".join(names) if unknown else "chinchilla or power",
        )
    return replace(base, name="joint", free=tuple(name for name in names if name not in shared), needs=("line",))


FORMS: dict[str, Form] = {
    form.name: form for form in (CHINCHILLA, KAPLAN, SKALING, POWER, RANK, RANK_POWER, DATA_CONSTRAINED, joint())
}


def form_named(law: str | Form) -> Form:
    """The form called `law` (a `Form` passes through).

    Raises:
        FitError: there is no such form.
    """
    if isinstance(law, Form):
        return law
    if law not in FORMS:
        raise FitError("unknown law", got=law, allowed=", ".join(FORMS))
    return FORMS[law]
