"""Extrapolation calibrated on the data's own hold-outs, with several forms stacked (docs/design.md, section 5).

    stacked = extrapolate(points)                        # Points of one line
    stacked.at(params, tokens), stacked.at_compute(1e24) # Prediction, or NotDetermined with a reason

Rolling origin: the forms are fitted again without the largest one, two and three budgets while three remain (K = 0, 1,
2, 3 hold-outs for 3, 4, 5, 6 budgets and more), and predict what was left out. The forms are weighted by their hold-out
error^-2 (equally where K = 0); a prediction is their mixture in log loss, of variance

    (between the forms + within them) · inflation²,   inflation² = max(1, (1.5² + Σ_k min(mean z²_k, 25)) / (1 + K))

with z the error of the mixture in units of its own deviation, mean z² over the runs of a held-out budget, then over
budgets. Within is what seed noise and scatter leave of the parameters, and for one further run that noise itself,
*without* any effect that the runs of a budget share: the hold-outs measure that already. Compute-optimal N and D are
calibrated by the same rule on the isoFLOP minima of the held-out budgets (approach 2 and a parametric law differ by
more than either's noise), never with less than the inflation of the loss. 1.5² is a prior worth one
hold-out, tuned on 23 public isoFLOP tables; it and the bound of 25 are frozen (results/benchmarks/extrapolation.md has
tables it was not tuned on).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from scaling.errors import FitError
from scaling.laws.budget_groups import recognised_budgets
from scaling.laws.determination import NotDetermined, undetermined_loss, undetermined_optimum
from scaling.laws.draws import Interval
from scaling.laws.fitting import Fit, fit
from scaling.laws.form_prediction import FormPrediction, Moments, noise_of_run
from scaling.laws.frontier import FlopsPerToken, frontier
from scaling.laws.isoflop import isoflop
from scaling.laws.objectives import Delta
from scaling.laws.points import Array, Points

FORMS = ("chinchilla", "kaplan", "skaling")
MAX_HELD_OUT, LEAST_BUDGETS = 3, 3
PRIOR, LARGEST_Z2 = 1.5**2, 25.0  # docs/design.md, section 5
_Z = 1.959964  # of a 95 % interval
_POLISHED = 6  # grid nodes polished for each of up to twelve fits
# Assumption: half of a 95 % interval, in log, from which on no number is given.
_WIDEST = {"loss": float(np.log(10.0)), "N": float(np.log(1e3))}
_GROUPS, _GROUP_SIZE = 6, 8  # assumption: without budgets, up to six groups of equal count along compute


class FormAnswer(NamedTuple):
    """What one form says, with its weight; `params` and `tokens` are None where they were asked for."""

    law: str
    weight: float
    loss: float
    params: float | None
    tokens: float | None


@dataclass(frozen=True)
class Calibration:
    """How the intervals were made: K budgets `held_out`, the factor on the deviation of the loss and on that of N and
    D, and the share of the held-out runs inside the intervals they would have been given (None where K = 0).
    """

    inflation: float
    held_out: int
    share_inside: float | None
    inflation_of_optimum: float

    @property
    def text(self) -> str:
        """One clause for a person."""
        if not self.held_out:
            return "calibrated on public tables, not on yours: too few budgets to hold any out"
        budgets = f"{self.held_out} held-out budget{'s' if self.held_out > 1 else ''}"
        return f"calibrated on {budgets}: {self.share_inside:.0%} of the runs inside, deviation × {self.inflation:.2f}"


@dataclass(frozen=True)
class Prediction:
    """The mixture at (N, D), or the compute-optimal model at `compute`.

    `intervals` (95 %) holds `loss` (of the law), `loss_of_run` (of one further run) and, at a compute, `N` and `D`.
    """

    params: float
    tokens: float
    loss: float
    intervals: Mapping[str, Interval]
    forms: tuple[FormAnswer, ...]
    calibration: Calibration
    compute: float | None = None


class Mixture(NamedTuple):
    """Stacked forms at points [m]: mean of log loss, and its variance for the law and for one further run, both before
    inflation.
    """

    mean: Array
    of_law: Array
    of_run: Array


class HeldOutMinimum(NamedTuple):
    """log N of one held-out budget's isoFLOP minimum, and of each form's optimum there with its variance [forms]."""

    observed: float
    mean: Array
    variance: Array


class HeldOutRuns(NamedTuple):
    """One origin: runs left out [m], their budgets, each form's log loss and variances [forms, m], and the minima."""

    budget: Array
    observed: Array
    mean: Array
    of_law: Array
    noise: Array
    minima: tuple[HeldOutMinimum, ...]


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """Stacked forms of one line.

    Attributes:
        forms: the forms fitted to all points, with their weights.
        calibration: of the intervals.
        skipped: forms that these points do not determine, and why.
        grouped_by: `budget`, `FLOPs` (budgets recognised there) or `compute` (groups along it).
        flops_per_token, params_range: as given to `extrapolate`.
    """

    forms: tuple[FormPrediction, ...]
    weights: Array
    calibration: Calibration
    skipped: Mapping[str, str]
    grouped_by: str
    flops_per_token: FlopsPerToken | None = None
    params_range: tuple[float, float] | None = None

    def mixture(self, points: Points) -> Mixture:
        """The stacked forms at `points`, before inflation."""
        answers = [form.log_loss(points) for form in self.forms]
        noise = np.array([form.sigma**2 for form in self.forms])
        return _mixture(self.weights, answers, noise[:, None])

    def at(self, params: float, tokens: float) -> Prediction | NotDetermined:
        """Loss at (N, D): of the law, and of one further run.

        Raises:
            FitError: N or D is not a positive number.
        """
        points = Points(np.array([params]), np.array([tokens]), np.ones(1))
        why = [undetermined_loss(form.fit, params, tokens) for form in self.forms]
        if (first := next((reason for reason in why if reason is not None), None)) is not None:
            return first
        mixture = self.mixture(points)
        if (wide := self._too_wide(mixture.of_run[0], None)) is not None:
            return wide
        answers = [form.log_loss(points) for form in self.forms]
        losses = [float(np.exp(answer.mean[0])) for answer in answers]
        loss, intervals = self._losses(mixture, losses)
        forms = tuple(self._answer(i, value, None, None) for i, value in enumerate(losses))
        return Prediction(params, tokens, loss, intervals, forms, self.calibration)

    def at_compute(self, compute: float) -> Prediction | NotDetermined:
        """Compute-optimal N, D and loss at `compute` training FLOPs.

        Raises:
            FitError: `compute` is not a positive number.
        """
        if not (np.isfinite(compute) and compute > 0):
            raise FitError("compute is a positive number of FLOPs", got=compute)
        moments = []
        for form in self.forms:
            if (why := undetermined_optimum(form.fit)) is not None:
                return why
            along = frontier(form.fit, flops_per_token=self.flops_per_token, params_range=self.params_range)
            found = form.log_optimum(along, compute)
            if not along.holds(float(np.exp(found.mean[0]))):
                reason = f"the best size of {form.fit.law} at {compute:.3g} FLOPs is at the edge of those searched"
                return NotDetermined("the compute-optimal model", reason)
            moments.append(found)
        values = np.exp([answer.mean for answer in moments])
        noise = np.array([form.sigma**2 for form in self.forms])
        mixture = _mixture(self.weights, moments, noise[:, None])
        if (wide := self._too_wide(mixture.of_run[2], mixture.of_law[0])) is not None:
            return wide
        loss, intervals = self._losses(Mixture(*(part[2:] for part in mixture)), values[:, 2].tolist())
        params, tokens = np.exp(mixture.mean[:2])
        half = _Z * self.calibration.inflation_of_optimum * np.sqrt(mixture.of_law)
        for k, name in enumerate(("N", "D")):
            intervals[name] = self._interval(mixture.mean[k], half[k], values[:, k].tolist())
        forms = tuple(self._answer(i, own[2], own[0], own[1]) for i, own in enumerate(values.tolist()))
        return Prediction(float(params), float(tokens), loss, intervals, forms, self.calibration, compute)

    def _too_wide(self, loss_variance: float, params_variance: float | None) -> NotDetermined | None:
        """Why an interval is too wide for a number to be given with it."""
        widths = {"loss": (loss_variance, self.calibration.inflation)}
        if params_variance is not None:
            widths["N"] = (params_variance, self.calibration.inflation_of_optimum)
        for name, (variance, inflation) in widths.items():
            half = _Z * inflation * float(np.sqrt(variance))
            if half > _WIDEST[name]:
                reason = f"its 95 % interval reaches further than a factor {np.exp(_WIDEST[name]):.3g} each way"
                return NotDetermined(name, reason)
        return None

    def _losses(self, mixture: Mixture, losses: Sequence[float]) -> tuple[float, dict[str, Interval]]:
        inflation, mean = self.calibration.inflation, float(mixture.mean[0])
        halves = {"loss": mixture.of_law[0], "loss_of_run": mixture.of_run[0]}
        intervals = {
            name: self._interval(mean, _Z * inflation * float(np.sqrt(variance)), losses)
            for name, variance in halves.items()
        }
        return float(np.exp(mean)), intervals

    def _interval(self, mean: float, half: float, values: Sequence[float]) -> Interval:
        """In log about the mean; without hold-outs it also holds what every form says."""
        low, high = float(np.exp(mean - half)), float(np.exp(mean + half))
        if self.calibration.held_out:
            return low, high
        return min(low, *values), max(high, *values)

    def _answer(self, i: int, loss: float, params: float | None, tokens: float | None) -> FormAnswer:
        return FormAnswer(self.forms[i].fit.law, float(self.weights[i]), loss, params, tokens)


def extrapolate(
    points: Points,
    *,
    forms: Sequence[str] = FORMS,
    objective: str = "log_huber",
    delta: Delta = "auto",
    seed_noise: float | None = None,
    fitted: Mapping[str, Fit] | None = None,
    flops_per_token: FlopsPerToken | None = None,
    params_range: tuple[float, float] | None = None,
) -> Extrapolation:
    """Fits, holds out, weighs and calibrates.

    Args:
        points: one line, of three compute budgets or more.
        forms: laws to stack; one that the points do not determine is left out, with the reason in `skipped`.
        objective, delta: of every fit.
        seed_noise: standard deviation of one seed in log loss; the noise of a run is never taken to be less.
        fitted: fits of these points that exist already, by law, made with this objective and δ.
        flops_per_token: training FLOPs per token at sizes N [m], for compute-optimal models; None is 6·N.
        params_range: sizes searched for them; None is four decades beyond the points on each side.

    Raises:
        FitError: no form is determined by the points, with the reason of the first.
    """
    groups, grouped_by = _groups(points)
    shared = groups if grouped_by != "compute" else None
    skipped: dict[str, str] = {}
    full: dict[str, FormPrediction] = {}
    for law in forms:
        try:
            made = (fitted or {}).get(law) or fit(points, law, objective=objective, delta=delta, polished=_POLISHED)
        except FitError as error:
            skipped[law] = error.what
            continue
        full[law] = FormPrediction(made, noise_of_run(made, shared, seed_noise))
    sound = {law: form for law, form in full.items() if form.fit.status not in ("degenerate", "not_converged")}
    for law in [law for law in full if sound and law not in sound]:
        skipped[law] = full.pop(law).fit.message
    if not full:
        raise FitError(f"no law can be extrapolated from these points: {next(iter(skipped.values()))}")
    levels = np.unique(groups)
    origins: list[HeldOutRuns] = []
    for k in range(1, min(MAX_HELD_OUT, len(levels) - LEAST_BUDGETS) + 1):
        held = groups >= levels[-k]
        predictions = _refitted(points.select(~held), list(full), objective, delta, seed_noise, shared, ~held)
        if isinstance(predictions, str):
            break
        minima = _held_out_minima(predictions, points.select(held), groups[held], flops_per_token, params_range)
        origins.append(_held_out(predictions, points.select(held), groups[held], minima if shared is not None else ()))
    weights = _weights(origins, len(full))
    calibration = _calibration(origins, weights)
    return Extrapolation(tuple(full.values()), weights, calibration, skipped, grouped_by, flops_per_token, params_range)


def _groups(points: Points) -> tuple[Array, str]:
    """A level of compute for every point, ascending, and where it comes from."""
    if points.budget is not None:
        return points.budget, "budget"
    if (found := recognised_budgets(points).budget) is not None:
        return found, "FLOPs"
    count = int(np.clip(len(points) // _GROUP_SIZE, 1, _GROUPS))
    edges = np.quantile(points.compute, np.linspace(0.0, 1.0, count + 1)[1:-1])
    return np.searchsorted(edges, points.compute, side="left").astype(np.float64), "compute"


def _refitted(
    kept: Points,
    laws: Sequence[str],
    objective: str,
    delta: Delta,
    seed_noise: float | None,
    groups: Array | None,
    rows: Array | np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> list[FormPrediction] | str:
    """Every form fitted to the points that were kept, or why one is not."""
    found = []
    for law in laws:
        try:
            made = fit(kept, law, objective=objective, delta=delta, polished=_POLISHED)
        except FitError as error:
            return error.what
        found.append(FormPrediction(made, noise_of_run(made, None if groups is None else groups[rows], seed_noise)))
    return found


def _held_out_minima(
    forms: Sequence[FormPrediction],
    held: Points,
    budget: Array,
    flops_per_token: FlopsPerToken | None,
    params_range: tuple[float, float] | None,
) -> tuple[HeldOutMinimum, ...]:
    """The bracketed isoFLOP minima of the held-out budgets, beside every form's optimum, where all forms have one."""
    along = [frontier(form.fit, flops_per_token=flops_per_token, params_range=params_range) for form in forms]
    found = []
    for minimum in isoflop(replace(held, budget=budget), draws=0).bracketed:
        best = [form.log_optimum(one, minimum.budget) for form, one in zip(forms, along, strict=True)]
        means, variances = (np.array([getattr(own, name)[0] for own in best]) for name in ("mean", "variance"))
        if not all(one.holds(float(np.exp(own.mean[0]))) for one, own in zip(along, best, strict=True)):
            continue
        found.append(HeldOutMinimum(float(np.log(minimum.params)), means, variances))
    return tuple(found)


def _held_out(
    forms: Sequence[FormPrediction], held: Points, budget: Array, minima: tuple[HeldOutMinimum, ...]
) -> HeldOutRuns:
    answers = [form.log_loss(held) for form in forms]
    return HeldOutRuns(
        budget,
        np.log(held.loss),
        np.array([answer.mean for answer in answers]),
        np.array([answer.variance for answer in answers]),
        np.array([[form.sigma**2] for form in forms]),
        minima,
    )


def _weights(origins: Sequence[HeldOutRuns], forms: int) -> Array:
    """Weight of every form [forms]: inverse mean square hold-out error, equal without hold-outs."""
    if not origins:
        return np.full(forms, 1.0 / forms)
    squares = np.mean([_over_budgets(one.budget, (one.observed - one.mean) ** 2) for one in origins], axis=0)
    inverse = 1.0 / np.maximum(squares, 1e-300)
    weights: Array = inverse / inverse.sum()
    return weights


def _over_budgets(budget: Array, values: Array) -> Array:
    """Mean over the runs of each budget, then over budgets; `values` [..., m]."""
    return np.asarray(np.mean([values[..., budget == level].mean(axis=-1) for level in np.unique(budget)], axis=0))


def _mixture(weights: Array, answers: Sequence[Moments], noise: Array) -> Mixture:
    means = np.array([answer.mean for answer in answers])
    variances = np.array([answer.variance for answer in answers])
    mean = weights @ means
    between = weights @ (means - mean) ** 2
    of_law = weights @ variances + between
    return Mixture(mean, of_law, of_law + weights @ np.broadcast_to(noise, means.shape))


def _calibration(origins: Sequence[HeldOutRuns], weights: Array) -> Calibration:
    squares, scaled = [], []
    for one in origins:
        answers = [Moments(*pair) for pair in zip(one.mean, one.of_law, strict=True)]
        mixture = _mixture(weights, answers, one.noise)
        z2 = (one.observed - mixture.mean) ** 2 / mixture.of_run
        squares.append(float(_over_budgets(one.budget, z2)))
        scaled.append(z2)
    inflation2 = _inflation2(squares)
    inside = float(np.mean(np.concatenate(scaled) <= inflation2 * _Z**2)) if origins else None
    of_optimum = max(inflation2, _inflation2([_optimum_z2(one.minima, weights) for one in origins if one.minima]))
    return Calibration(float(np.sqrt(inflation2)), len(origins), inside, float(np.sqrt(of_optimum)))


def _inflation2(squares: Sequence[float]) -> float:
    return max(1.0, (PRIOR + sum(min(z2, LARGEST_Z2) for z2 in squares)) / (1 + len(squares)))


def _optimum_z2(minima: Sequence[HeldOutMinimum], weights: Array) -> float:
    """Mean squared error of log N at the held-out minima, in units of the mixture's variance."""
    values = []
    for one in minima:
        mean = float(weights @ one.mean)
        variance = float(weights @ (one.variance + (one.mean - mean) ** 2))
        values.append((one.observed - mean) ** 2 / max(variance, 1e-300))
    return float(np.mean(values))
