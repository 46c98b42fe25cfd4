"""The compute-optimal frontier of a law: N, D and loss as functions of training compute.

Under C = 6·N·D the optimum of E + A/N^α + B/D^β is in closed form (Hoffmann et al. 2203.15556, eq. 4). Under any
other counting the FLOPs per token depend on the size, so loss is minimised numerically along N with D = C /
flops_per_token(N), and the exponent becomes a *local slope*. Every bootstrap draw has its own frontier; intervals are
over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.errors import FitError
from scaling.laws.determination import NotDetermined, undetermined_optimum
from scaling.laws.draws import Draws, Interval
from scaling.laws.fitting import Fit
from scaling.laws.forms import Term
from scaling.laws.points import FLOPS_PER_PARAM_TOKEN, Array, Points
from scaling.laws.solver.objective_terms import System
from scaling.laws.solver.parameters import Layout

FlopsPerToken = Callable[[Array], Array]
Place = Callable[[Array, Array], Points]

_NODES = 241
_REFINEMENTS = 3
_FAR = 300.0  # in the log of a size or a loss
_SLOPE_STEP = 0.05  # in log C, each way
_SEARCH_DECADES = 4.0  # beyond the sizes fitted, each way


@dataclass(frozen=True)
class Optimum:
    """The compute-optimal model at `compute`.

    `slope` is d log N / d log C there; `intervals` (95 %) has N, D, loss and slope where draws were given; `at_edge`
    says that the best size is the first or last one searched, so that the numbers are not an optimum.
    """

    compute: float
    params: float
    tokens: float
    loss: float
    slope: float
    at_edge: bool
    intervals: dict[str, Interval] = field(default_factory=dict)


def plain_points(params: Array, tokens: Array) -> Points:
    """Points of a law without lines or ranks: only N and D, no token seen twice."""
    return Points(params, tokens, np.ones(len(params)), unique_tokens=tokens, unique_params=params)


def six(params: Array) -> Array:
    """FLOPs per token under C = 6·N·D."""
    return FLOPS_PER_PARAM_TOKEN * params


@dataclass(frozen=True, eq=False)
class Frontier:
    """The frontier of a fit: `at(C)` gives the optimum at a compute."""

    fit: Fit
    draws: Draws | None
    flops_per_token: FlopsPerToken
    params_range: tuple[float, float]
    place: Place

    def at(self, compute: float) -> Optimum:
        """The minimum of the law at `compute` FLOPs, with an interval for each number where there are draws; `answer`
        says whether it is determined.
        """
        best = self._minimum(compute, self.fit.vector[None])
        slope = float(self._slope(compute, self.fit.vector[None])[0])
        params, tokens, loss = (float(values[0]) for values in best)
        with_draws = self.draws is not None and len(self.draws.vectors)
        intervals = self._intervals(compute, (params, tokens, loss, slope)) if with_draws else {}
        return Optimum(compute, params, tokens, loss, slope, not self.holds(params), intervals)

    def holds(self, params: float) -> bool:
        """Whether a best size lies inside the sizes searched, not at their edge."""
        low, high = self.params_range
        return low * 1.001 < params < high / 1.001

    def answer(self, compute: float) -> Optimum | NotDetermined:
        """`at`, or why there is no compute-optimal model to give: the fit, its draws, or an optimum at the edge of the
        sizes searched.
        """
        why = undetermined_optimum(self.fit, self.draws)
        if why is not None:
            return why
        best = self.at(compute)
        if best.at_edge:
            low, high = self.params_range
            reason = f"the best size at {compute:.3g} FLOPs is the edge of those searched, {low:.3g} to {high:.3g}"
            return NotDetermined("the compute-optimal model", reason)
        return best

    def curve(self, compute: Array) -> dict[str, Array]:
        """N, D and loss [levels] along compute levels, without intervals."""
        optima = [self._minimum(float(c), self.fit.vector[None]) for c in compute]
        return {name: np.array([o[k][0] for o in optima]) for k, name in enumerate(("params", "tokens", "loss"))}

    def loss_at(self, compute: float) -> float:
        """Frontier loss at `compute`."""
        return float(self._minimum(compute, self.fit.vector[None])[2][0])

    def minima(self, compute: float, vectors: Array) -> Array:
        """Optimal N, D and loss [3, R] of internal parameter vectors [R, P] at `compute`."""
        return np.array(self._minimum(compute, vectors))

    def loss_draws(self, compute: float) -> Array:
        """Frontier loss of every draw [draws] at `compute`: subtract two lines' to compare them with paired draws."""
        if self.draws is None:
            raise FitError("this frontier has no draws", hint="pass draws=bootstrap(fit, …) to frontier")
        return self._minimum(compute, self.draws.vectors)[2]

    def _intervals(self, compute: float, best: tuple[float, float, float, float]) -> dict[str, Interval]:
        assert self.draws is not None
        vectors = self.draws.vectors
        values = (*self._minimum(compute, vectors), self._slope(compute, vectors))
        return {
            name: self.draws.around(sample, value, in_log=name in ("N", "D"))
            for name, sample, value in zip(("N", "D", "loss", "slope"), values, best, strict=True)
        }

    def _slope(self, compute: float, vectors: Array) -> Array:
        up, down = (self._minimum(compute * np.exp(step), vectors)[0] for step in (_SLOPE_STEP, -_SLOPE_STEP))
        slope: Array = np.log(up / down) / (2.0 * _SLOPE_STEP)
        return slope

    def _minimum(self, compute: float, vectors: Array) -> tuple[Array, Array, Array]:
        """Optimal N, D and loss, each [R], of R internal vectors.

        A common grid in log N comes first, then a finer one around the best node of each vector.
        """
        if self.flops_per_token is six and (closed := self._closed_form(compute, vectors)) is not None:
            return closed
        low, high = np.log(self.params_range[0]), np.log(self.params_range[1])
        grid = np.linspace(low, high, _NODES)
        values = self._log_loss(grid, compute, vectors)
        best = np.clip(values.argmin(axis=1), 1, _NODES - 2)
        place = _vertex(grid, values, best)
        step = (high - low) / (_NODES - 1)
        for _ in range(_REFINEMENTS if len(vectors) == 1 else 0):
            step /= 20.0
            grid = np.clip(np.linspace(place[0] - 12 * step, place[0] + 12 * step, 25), low, high)
            values = self._log_loss(grid, compute, vectors)
            best = np.clip(values.argmin(axis=1), 1, 23)
            place = _vertex(grid, values, best)
        loss = np.exp(np.minimum(values.min(axis=1), _vertex_value(grid, values, best)))
        params = np.exp(place)
        return params, compute / self.flops_per_token(params), loss

    def _log_loss(self, log_params: Array, compute: float, vectors: Array) -> Array:
        params = np.exp(log_params)
        points = self.place(params, compute / self.flops_per_token(params))
        return System(self.fit.layout, points).log_loss(vectors)

    def _closed_form(self, compute: float, vectors: Array) -> tuple[Array, Array, Array] | None:
        form, layout = self.fit.form, self.fit.layout
        if form.free or len(form.terms) != 2 or any(term.stretch for term in form.terms):
            return None
        (log_a, alpha), (log_b, beta) = (
            _term_at_one(layout, vectors, term, centre) for term, centre in zip(form.terms, layout.centres, strict=True)
        )
        log_six, balance = np.log(compute / FLOPS_PER_PARAM_TOKEN), np.log(alpha / beta) + log_a - log_b
        # A degenerate draw puts the optimum anywhere: the bounds keep it a number.
        log_params = np.clip((balance + beta * log_six) / (alpha + beta), -_FAR, _FAR)
        model, data = log_a - alpha * log_params, log_b - beta * (log_six - log_params)
        loss = np.exp(np.minimum(model, _FAR)) + np.exp(np.minimum(data, _FAR))
        if form.power:
            loss = np.exp(np.minimum(vectors[:, layout.index(form.power)] * np.log(loss), _FAR))
        if form.floor:
            loss = vectors[:, layout.index(form.floor)] * layout.loss_scale + loss
        return np.exp(log_params), np.exp(log_six - log_params), loss


def _term_at_one(layout: Layout, vectors: Array, term: Term, centre: float) -> tuple[Array, Array | float]:
    """log of a term's coefficient and its exponent, [R] each."""
    exponent = vectors[:, layout.index(term.exponent)] if isinstance(term.exponent, str) else float(term.exponent)
    return vectors[:, layout.index(term.coefficient)] + centre * exponent, exponent


def _log(value: Array | float) -> Array:
    """Logarithm of a coefficient that may have ended at zero."""
    logarithm: Array = np.log(np.maximum(value, 1e-300))
    return logarithm


def frontier(
    fit: Fit,
    *,
    draws: Draws | None = None,
    flops_per_token: FlopsPerToken | None = None,
    params_range: tuple[float, float] | None = None,
    place: Place | None = None,
) -> Frontier:
    """The frontier of a law with a model term and a data term.

    Args:
        fit: the law.
        draws: for intervals.
        flops_per_token: training FLOPs per token at sizes N [m]; None is 6·N.
        params_range: sizes searched; None is four decades beyond the points on each side.
        place: N [m] and D [m] -> `Points`, for laws that read more (a line, factorized parameters); None gives only N
            and D, of tokens that are not repeated.

    Raises:
        FitError: the law has no trade-off between N and D.
    """
    variables = {term.variable for term in fit.form.terms}
    if not {"params", "tokens"} <= variables:
        raise FitError(
            f"law {fit.law} has no trade-off between parameters and tokens, so no frontier",
            allowed="chinchilla, kaplan, rank, rank_power, joint",
        )
    reach = 10.0**_SEARCH_DECADES
    span = params_range or (float(fit.points.params.min()) / reach, float(fit.points.params.max()) * reach)
    return Frontier(fit, draws, flops_per_token or six, span, place or plain_points)


def balanced_params(parameters: Mapping[str, float], tokens: Array) -> Array:
    """Parameters for which `tokens` are compute-optimal under C = 6·N·D, where α·A/N^α = β·B/D^β."""
    p = parameters
    balance = _log(p["alpha"] * p["A"]) - _log(p["beta"] * p["B"])
    balanced: Array = np.exp(np.clip((balance + p["beta"] * np.log(tokens)) / p["alpha"], -_FAR, _FAR))
    return balanced


def _vertex(grid: Array, values: Array, best: Array) -> Array:
    """Vertex in x of the parabola through each row's best node and its neighbours."""
    rows = np.arange(len(values))
    left, middle, right = (values[rows, best + k] for k in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1.0), 0.0)
    place: Array = grid[best] + np.clip(shift, -1.0, 1.0) * (grid[1] - grid[0])
    return place


def _vertex_value(grid: Array, values: Array, best: Array) -> Array:
    rows = np.arange(len(values))
    left, middle, right = (values[rows, best + k] for k in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    lower: Array = middle - np.where(bend > 0, (left - right) ** 2 / (8.0 * np.where(bend > 0, bend, 1.0)), 0.0)
    return lower
