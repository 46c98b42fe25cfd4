"""What the hold-outs of a set of points say of an extrapolation: weights of the forms, and by how much their mixture
must be widened (docs/design.md, "Laws and fits").

Rolling origin: every form is fitted again without the largest one, two and three budgets while three remain (K = 0, 1,
2, 3 hold-outs for 3, 4, 5, 6 budgets and more), and predicts what was left out. Forms are weighted by their hold-out
error^-2, equally where K = 0. The deviation of the mixture is multiplied by the inflation

    inflation² = max(1, (1.5² + Σ_k min(mean z²_k, 25)) / (1 + K))

with z the error of the mixture in units of its own deviation, its mean taken over the runs of a held-out budget, then
over budgets. 1.5² is a prior worth one hold-out, tuned on 23 public isoFLOP tables; it and the bound of 25 are frozen
(results/benchmarks/extrapolation.md has tables it was not tuned on). Compute-optimal N and D follow the same rule on
the isoFLOP minima of the held-out budgets: approach 2 and a parametric law differ by more than either's noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from scaling.errors import FitError
from scaling.laws.fitting import Fit, fit
from scaling.laws.form_prediction import FormPrediction, Moments, noise_of_run
from scaling.laws.frontier import FlopsPerToken, Frontier, frontier
from scaling.laws.isoflop import isoflop
from scaling.laws.objectives import Delta
from scaling.laws.points import Array, Points

MAX_HELD_OUT, LEAST_BUDGETS = 3, 3
PRIOR, LARGEST_Z2 = 1.5**2, 25.0  # docs/design.md, "Laws and fits"
Z_95 = 1.959964
_POLISHED = 3  # grid nodes polished for each of up to twelve fits
_ONE_VALLEY = 1000  # assumption: with so many points a refit starts from the fit of all points alone


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
        if self.share_inside is None:
            return "calibrated on public tables, not on yours: too few budgets to hold any out"
        budgets = f"{self.held_out} held-out budget{'s' if self.held_out > 1 else ''}"
        return f"calibrated on {budgets}: {self.share_inside:.0%} of the runs inside, deviation × {self.inflation:.2f}"


class Mixture(NamedTuple):
    """Stacked forms at m places: mean of the log, and its variance for the law and for one further run, both before
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


class Origin(NamedTuple):
    """Runs left out [m], their budgets, each form's log loss with its variance [forms], and the minima."""

    budget: Array
    observed: Array
    answers: list[Moments]
    noise: Array
    minima: list[HeldOutMinimum]


@dataclass(frozen=True)
class FitRecipe:
    """How every form is fitted and its optimum found, for all points and for those of each origin alike.

    Args:
        objective, delta: of the fit.
        seed_noise: standard deviation of one seed in log loss; the noise of a run is never taken to be less.
        flops_per_token: training FLOPs per token at sizes N [m]; None is 6·N.
        params_range: sizes searched; None is four decades beyond the points on each side.
    """

    objective: str
    delta: Delta
    seed_noise: float | None
    flops_per_token: FlopsPerToken | None
    params_range: tuple[float, float] | None

    def predictor(self, points: Points, law: str, groups: Array | None, near: Fit | None = None) -> FormPrediction:
        """`law` fitted to `points`; `groups` [n] have effects of their own (`form_prediction.noise_of_run`).

        Raises:
            FitError: the points do not determine the law.
        """
        start = near if len(points) > _ONE_VALLEY else None
        result = fit(points, law, objective=self.objective, delta=self.delta, polished=_POLISHED, near=start)
        return self.with_noise(result, groups)

    def with_noise(self, fit: Fit, groups: Array | None) -> FormPrediction:
        """A fit with the noise of one run."""
        return FormPrediction(fit, noise_of_run(fit, groups, self.seed_noise))

    def frontier(self, form: FormPrediction) -> Frontier:
        """The frontier of one form."""
        return frontier(form.fit, flops_per_token=self.flops_per_token, params_range=self.params_range)


def roll(
    points: Points, groups: Array, full: Mapping[str, FormPrediction], recipe: FitRecipe, *, designed: bool
) -> list[Origin]:
    """The origins, fewest budgets held out first; it ends at the first that does not determine every form of `full`.

    Args:
        points: one line.
        groups: level of compute of every point [n].
        full: the forms fitted to all points.
        recipe: how those were fitted.
        designed: whether the groups are budgets, which have an effect and a minimum of their own.
    """
    origins: list[Origin] = []
    levels = np.unique(groups)
    for k in range(1, min(MAX_HELD_OUT, len(levels) - LEAST_BUDGETS) + 1):
        held = groups >= levels[-k]
        shared = groups[~held] if designed else None
        try:
            forms = [recipe.predictor(points.select(~held), law, shared, form.fit) for law, form in full.items()]
        except FitError:
            break
        left_out = points.select(held)
        minima = _minima(forms, replace(left_out, budget=groups[held]), recipe) if designed else []
        answers = [form.log_loss(left_out) for form in forms]
        origins.append(Origin(groups[held], np.log(left_out.loss), answers, noise_of(forms), minima))
    return origins


def _minima(forms: Sequence[FormPrediction], held: Points, recipe: FitRecipe) -> list[HeldOutMinimum]:
    """The bracketed isoFLOP minima of the held-out budgets, beside every form's optimum, where all forms have one."""
    along = [recipe.frontier(form) for form in forms]
    rows = []
    for minimum in isoflop(held, draws=0).bracketed:
        best = [form.log_optimum(one, minimum.budget) for form, one in zip(forms, along, strict=True)]
        if not all(one.holds(float(np.exp(own.mean[0]))) for one, own in zip(along, best, strict=True)):
            continue
        means, variances = np.array([own.mean[0] for own in best]), np.array([own.variance[0] for own in best])
        rows.append(HeldOutMinimum(float(np.log(minimum.params)), means, variances))
    return rows


def noise_of(forms: Sequence[FormPrediction]) -> Array:
    """Variance of one run about each form [forms, 1]."""
    return np.array([[form.sigma**2] for form in forms])


def mix(weights: Array, answers: Sequence[Moments], noise: Array) -> Mixture:
    """The mixture of the forms' answers [forms, m]: between the forms, and within them."""
    means = np.array([answer.mean for answer in answers])
    variances = np.array([answer.variance for answer in answers])
    mean = weights @ means
    of_law = weights @ (variances + (means - mean) ** 2)
    return Mixture(mean, of_law, of_law + weights @ np.broadcast_to(noise, means.shape))


def weights_of(origins: Sequence[Origin], forms: int) -> Array:
    """Weight of every form [forms]: inverse mean square hold-out error, equal without hold-outs."""
    if not origins:
        return np.full(forms, 1.0 / forms)
    squares = [
        [_over_budgets(one.budget, (one.observed - answer.mean) ** 2) for answer in one.answers] for one in origins
    ]
    inverse = 1.0 / np.maximum(np.mean(squares, axis=0), 1e-300)
    weights: Array = inverse / inverse.sum()
    return weights


def calibrate(origins: Sequence[Origin], weights: Array) -> Calibration:
    """The inflation that the hold-outs ask for."""
    squares, all_z2 = [], []
    for one in origins:
        mixture = mix(weights, one.answers, one.noise)
        z2 = (one.observed - mixture.mean) ** 2 / mixture.of_run
        squares.append(_over_budgets(one.budget, z2))
        all_z2.append(z2)
    of_loss = inflation2(squares)
    of_optimum = inflation2([_optimum_z2(one.minima, weights) for one in origins if one.minima])
    inside = float(np.mean(np.concatenate(all_z2) <= Z_95**2 * of_loss)) if origins else None
    return Calibration(float(np.sqrt(of_loss)), len(origins), inside, float(np.sqrt(max(of_loss, of_optimum))))


def inflation2(squares: Sequence[float]) -> float:
    """Factor on a variance, from one mean z² for each hold-out."""
    return max(1.0, (PRIOR + sum(min(z2, LARGEST_Z2) for z2 in squares)) / (1 + len(squares)))


def _over_budgets(budget: Array, values: Array) -> float:
    """Mean over the runs of each budget, then over budgets."""
    return float(np.mean([values[budget == level].mean() for level in np.unique(budget)]))


def _optimum_z2(minima: Sequence[HeldOutMinimum], weights: Array) -> float:
    """Mean squared error of log N at the held-out minima, in units of the mixture's variance."""
    values = []
    for one in minima:
        mean = float(weights @ one.mean)
        variance = float(weights @ (one.variance + (one.mean - mean) ** 2))
        values.append((one.observed - mean) ** 2 / max(variance, 1e-300))
    return float(np.mean(values))
