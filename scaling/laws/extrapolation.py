"""Extrapolation: several forms stacked, their intervals calibrated on the data's own hold-outs.

    stacked = extrapolate(points)                        # Points of one line
    stacked.at(params, tokens), stacked.at_compute(1e24) # StackedPrediction, or NotDetermined with a reason

A prediction is the mixture of the forms in log, of variance (between the forms + within them) · inflation². Within is
what seed noise and scatter leave of the parameters, and for one further run that noise itself, *without* any effect
that the runs of a budget share: the hold-outs measure that already. Weights and inflation come from
`rolling_holdouts`. Where nothing can be held out the intervals also hold what every single form says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scaling.errors import FitError
from scaling.laws.budget_groups import recognised_budgets
from scaling.laws.determination import NotDetermined, undetermined_loss, undetermined_optimum
from scaling.laws.draws import Interval
from scaling.laws.fitting import Fit
from scaling.laws.form_prediction import FormPrediction, Moments
from scaling.laws.frontier import FlopsPerToken
from scaling.laws.objectives import Delta
from scaling.laws.points import Array, Points
from scaling.laws.rolling_holdouts import (
    Z_95,
    Calibration,
    FitRecipe,
    Mixture,
    calibrate,
    mix,
    noise_of,
    roll,
    weights_of,
)

STACKED_FORMS = ("chinchilla", "kaplan", "skaling")  # docs/design.md, "Laws and fits"
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
class StackedPrediction:
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


class HeldOut(NamedTuple):
    """The runs [m] of the `budgets` largest levels of compute, predicted from the others: their FLOPs, and measured
    minus predicted log loss in standard deviations of one run's prediction, inflation included.
    """

    budgets: int
    compute: Array
    deviations: Array


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """Stacked forms of one line.

    Attributes:
        forms: the forms fitted to all points, with their `weights`.
        calibration: of the intervals.
        skipped: forms that these points do not determine, and why.
        grouped_by: `budget`, `FLOPs` (budgets recognised there) or `compute` (groups along it).
        recipe: how the forms were fitted and their optima are found.
        held_out: what the calibration rests on, fewest budgets first.
    """

    forms: tuple[FormPrediction, ...]
    weights: Array
    calibration: Calibration
    skipped: Mapping[str, str]
    grouped_by: str
    recipe: FitRecipe
    held_out: tuple[HeldOut, ...]

    def mixture(self, points: Points) -> Mixture:
        """The stacked forms' log loss at `points` [m], before inflation."""
        return mix(self.weights, [form.log_loss(points) for form in self.forms], noise_of(self.forms))

    def at(self, params: float, tokens: float) -> StackedPrediction | NotDetermined:
        """Loss at (N, D): of the law, and of one further run.

        Raises:
            FitError: N or D is not a positive number.
        """
        points = Points(np.array([params]), np.array([tokens]), np.ones(1))
        for form in self.forms:
            if (why := undetermined_loss(form.fit, params, tokens)) is not None:
                return why
        answers = [form.log_loss(points) for form in self.forms]
        mixture = mix(self.weights, answers, noise_of(self.forms))
        if (wide := self._too_wide("loss", mixture.of_run[0])) is not None:
            return wide
        losses = [float(np.exp(answer.mean[0])) for answer in answers]
        forms = tuple(self._answer(i, loss, None, None) for i, loss in enumerate(losses))
        intervals = self._loss_intervals(mixture, 0, losses)
        return StackedPrediction(params, tokens, float(np.exp(mixture.mean[0])), intervals, forms, self.calibration)

    def at_compute(self, compute: float) -> StackedPrediction | NotDetermined:
        """Compute-optimal N, D and loss at `compute` training FLOPs.

        Raises:
            FitError: `compute` is not a positive number.
        """
        if not (np.isfinite(compute) and compute > 0):
            raise FitError("compute is a positive number of FLOPs", got=compute)
        answers: list[Moments] = []
        for form in self.forms:
            if (why := undetermined_optimum(form.fit)) is not None:
                return why
            along = self.recipe.frontier(form)
            answers.append(form.log_optimum(along, compute))
            if not along.holds(float(np.exp(answers[-1].mean[0]))):
                reason = f"the best size of {form.fit.law} at {compute:.3g} FLOPs is at the edge of those searched"
                return NotDetermined("the compute-optimal model", reason)
        mixture = mix(self.weights, answers, noise_of(self.forms))
        for name, variance in (("loss", mixture.of_run[2]), ("N", mixture.of_law[0])):
            if (wide := self._too_wide(name, variance)) is not None:
                return wide
        values = np.exp([answer.mean for answer in answers])  # forms × (N, D, loss)
        params, tokens, loss = (float(value) for value in np.exp(mixture.mean))
        half = Z_95 * self.calibration.inflation_of_optimum * np.sqrt(mixture.of_law)
        intervals = self._loss_intervals(mixture, 2, values[:, 2])
        for k, name in enumerate(("N", "D")):
            intervals[name] = self._interval(mixture.mean[k], half[k], values[:, k])
        forms = tuple(self._answer(i, own[2], own[0], own[1]) for i, own in enumerate(values.tolist()))
        return StackedPrediction(params, tokens, loss, intervals, forms, self.calibration, compute)

    def _too_wide(self, name: str, variance: float) -> NotDetermined | None:
        """Why an interval is too wide for a number to be given with it."""
        inflation = self.calibration.inflation if name == "loss" else self.calibration.inflation_of_optimum
        if Z_95 * inflation * float(np.sqrt(variance)) <= _WIDEST[name]:
            return None
        reason = f"its 95 % interval reaches further than a factor {np.exp(_WIDEST[name]):.3g} each way"
        return NotDetermined(name, reason)

    def _loss_intervals(self, mixture: Mixture, k: int, losses: Sequence[float] | Array) -> dict[str, Interval]:
        """Of the law and of one further run, at place `k` of the mixture."""
        return {
            name: self._interval(mixture.mean[k], Z_95 * self.calibration.inflation * np.sqrt(variance[k]), losses)
            for name, variance in (("loss", mixture.of_law), ("loss_of_run", mixture.of_run))
        }

    def _interval(self, mean: float, half: float, values: Sequence[float] | Array) -> Interval:
        """In log about the mean; without hold-outs it also holds what every form says."""
        low, high = float(np.exp(mean - half)), float(np.exp(mean + half))
        if self.calibration.held_out:
            return low, high
        return min(low, float(np.min(values))), max(high, float(np.max(values)))

    def _answer(self, i: int, loss: float, params: float | None, tokens: float | None) -> FormAnswer:
        return FormAnswer(self.forms[i].fit.law, float(self.weights[i]), loss, params, tokens)


def extrapolate(
    points: Points,
    *,
    forms: Sequence[str] = STACKED_FORMS,
    objective: str = "log_huber",
    delta: Delta = "auto",
    seed_noise: float | None = None,
    fitted: Mapping[str, Fit] | None = None,
    flops_per_token: FlopsPerToken | None = None,
    params_range: tuple[float, float] | None = None,
) -> Extrapolation:
    """Fits the forms, holds budgets out, weighs and calibrates.

    Args:
        points: one line, of three compute budgets or more.
        forms: laws to stack; one that the points do not determine is left out, with the reason in `skipped`.
        objective, delta: of every fit.
        seed_noise: standard deviation of one seed in log loss; the noise of a run is never taken to be less.
        fitted: fits of these points that exist already, by law, made with this objective and δ.
        flops_per_token: training FLOPs per token at sizes N [m], for compute-optimal models; None is 6·N.
        params_range: sizes searched for them; None is four decades beyond the points on each side.

    Raises:
        FitError: several lines, or no form is determined by the points (with the reason of the first).
    """
    if len(lines := points.lines()) > 1:
        raise FitError("an extrapolation is of one line", got=", ".join(lines), allowed="the points of one line")
    recipe = FitRecipe(objective, delta, seed_noise, flops_per_token, params_range)
    groups, grouped_by = _groups(points)
    designed = grouped_by != "compute"
    full, skipped = _fitted(points, forms, recipe, groups if designed else None, fitted or {})
    origins = roll(points, groups, full, recipe, designed=designed)
    weights = weights_of(origins, len(full))
    calibration = calibrate(origins, weights)
    held_out = []
    for k, origin in enumerate(origins, start=1):
        mixture = mix(weights, origin.answers, origin.noise)
        deviations = (origin.observed - mixture.mean) / (calibration.inflation * np.sqrt(mixture.of_run))
        held_out.append(HeldOut(k, points.compute[groups >= np.unique(groups)[-k]], deviations))
    return Extrapolation(tuple(full.values()), weights, calibration, skipped, grouped_by, recipe, tuple(held_out))


def _fitted(
    points: Points, laws: Sequence[str], recipe: FitRecipe, groups: Array | None, fitted: Mapping[str, Fit]
) -> tuple[dict[str, FormPrediction], dict[str, str]]:
    """The forms that the points determine, and why the others are left out; if none is determined all are kept, for
    what can still be said where the points lie.
    """
    full: dict[str, FormPrediction] = {}
    skipped: dict[str, str] = {}
    for law in laws:
        try:
            result = fitted.get(law)
            full[law] = recipe.with_noise(result, groups) if result else recipe.predictor(points, law, groups)
        except FitError as error:
            skipped[law] = error.what
    if not full:
        raise FitError(f"no law can be extrapolated from these points: {next(iter(skipped.values()))}")
    sound = {law: form for law, form in full.items() if form.fit.status not in ("degenerate", "not_converged")}
    if sound:
        skipped |= {law: form.fit.message for law, form in full.items() if law not in sound}
    return sound or full, skipped


def _groups(points: Points) -> tuple[Array, str]:
    """A level of compute for every point, ascending, and where it comes from."""
    if points.budget is not None:
        return points.budget, "budget"
    if (budgets := recognised_budgets(points).budget) is not None:
        return budgets, "FLOPs"
    count = int(np.clip(len(points) // _GROUP_SIZE, 1, _GROUPS))
    edges = np.quantile(points.compute, np.linspace(0.0, 1.0, count + 1)[1:-1])
    return np.searchsorted(edges, points.compute, side="left").astype(np.float64), "compute"
