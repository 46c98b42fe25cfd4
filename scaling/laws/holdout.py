"""Could the law have predicted the largest budget? Refit without it, predict it, and compare with a plain log-log line.

Everything that looked at the data is made again without the held-out budget: the fit, its draws (in which tuned cells
choose their settings anew; a choice looks at its own cell alone), the isoFLOP minima. Errors are signed, observed −
predicted, in nats and in units of seed noise. The rival is the simplest one there is: log L linear in log N and log D
for single runs, linear in log C for optima. A law that does not beat it has not earned its extrapolation. The 95 %
*prediction* interval of a run holds the law's uncertainty and the noise of one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.errors import FitError
from scaling.laws.draws import Kind, bootstrap
from scaling.laws.fitting import Fit, fit
from scaling.laws.forms import Form
from scaling.laws.frontier import FlopsPerToken, frontier
from scaling.laws.isoflop import isoflop
from scaling.laws.objectives import Delta
from scaling.laws.points import Array, Points
from scaling.laws.solver.newton import Flags
from scaling.laws.solver.objective_terms import System
from scaling.laws.tuning_bias import Trials, bootstrap_tuned, tuned_deviations

_TOP_DECADE_SHARE = 0.2  # assumption: without budgets, the 20 % of points with the most compute are held out


@dataclass(frozen=True)
class HeldOut:
    """One held-out run; errors are observed − predicted.

    `error_sigma` is the error in units of seed noise, None where that is unknown.
    """

    params: float
    tokens: float
    observed: float
    predicted: float
    error_nats: float
    error_sigma: float | None
    line_error_nats: float
    interval: tuple[float, float]
    inside: bool


@dataclass(frozen=True)
class HeldOptimum:
    """The held-out budget's own bottom against the frontier of the refit.

    The error of the loss is in nats, that of N the log of observed / predicted.
    """

    budget: float
    observed_loss: float
    predicted_loss: float
    error_nats: float
    line_error_nats: float
    log_params_error: float


@dataclass(frozen=True, eq=False)
class HoldOut:
    """The hold-out of one line: `refit` without the held-out points, and how each of them was predicted."""

    refit: Fit
    budget: float | None
    runs: tuple[HeldOut, ...]
    optimum: HeldOptimum | None
    unreliable: bool

    @property
    def rms_nats(self) -> float:
        """Root mean square error of the law on the held-out runs."""
        return float(np.sqrt(np.mean([run.error_nats**2 for run in self.runs])))

    @property
    def line_rms_nats(self) -> float:
        """The same of the plain log-log line."""
        return float(np.sqrt(np.mean([run.line_error_nats**2 for run in self.runs])))

    @property
    def share_inside(self) -> float:
        """Share of held-out runs inside their 95 % prediction intervals."""
        return float(np.mean([run.inside for run in self.runs]))

    @property
    def beats_line(self) -> bool:
        """Whether the law predicted better than the plain line."""
        return self.rms_nats < self.line_rms_nats


def hold_out(
    points: Points,
    law: str | Form = "chinchilla",
    *,
    objective: str = "log_huber",
    delta: Delta | None = None,
    draws: int = 500,
    seed: int = 0,
    kind: Kind = "cases",
    noise: float | None = None,
    flops_per_token: FlopsPerToken | None = None,
    trials: Trials | None = None,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
) -> HoldOut:
    """Predicts the largest budget from the others.

    Args:
        points: one line.
        law, objective, delta, kind, fixed, tied: as the fit that is validated.
        draws, seed: of the prediction intervals.
        noise: standard deviation of one seed in nats; the unit of `error_sigma`.
        flops_per_token: training FLOPs per token at N, for the optimum; None is 6·N.
        trials: all runs of tuned cells, of which `points` were chosen.

    Raises:
        FitError: what is left does not identify the law.
    """
    held_rows = _held_out(points)
    kept, held = points.select(~held_rows), points.select(held_rows)
    refit = fit(kept, law, objective=objective, delta=delta, fixed=fixed, tied=tied)
    if trials is None:
        sample = bootstrap(refit, draws=draws, seed=seed, kind=kind, noise=_relative(noise, kept))
    else:
        sample = bootstrap_tuned(refit, tuned_deviations(trials, refit, draws=draws, seed=seed, sigma=noise))
    predicted = refit.predict(held)
    sigma = max(refit.sigma_log, _relative(noise, held) or 0.0)
    spread = np.exp(System(refit.layout, held).log_loss(sample.vectors))
    rng = np.random.default_rng(seed + 1)
    spread = spread * np.exp(sigma * rng.normal(size=spread.shape))
    low, high = np.quantile(spread, [0.025, 0.975], axis=0) if len(spread) else (predicted * np.nan, predicted * np.nan)
    line = _plane(kept, held)
    runs = tuple(
        HeldOut(
            params=float(held.params[i]),
            tokens=float(held.tokens[i]),
            observed=float(held.loss[i]),
            predicted=float(predicted[i]),
            error_nats=float(held.loss[i] - predicted[i]),
            error_sigma=None if not noise else float((held.loss[i] - predicted[i]) / noise),
            line_error_nats=float(held.loss[i] - line[i]),
            interval=(float(low[i]), float(high[i])),
            inside=bool(low[i] <= held.loss[i] <= high[i]),
        )
        for i in range(len(held))
    )
    budget = float(held.budget.max()) if held.budget is not None else None
    return HoldOut(refit, budget, runs, _optimum(refit, kept, held, flops_per_token), sample.unreliable)


def _held_out(points: Points) -> Flags:
    if points.budget is not None:
        held = points.budget >= points.budget.max() * (1 - 1e-9)
    else:
        held = points.compute > np.quantile(points.compute, 1.0 - _TOP_DECADE_SHARE)
    if held.all() or not held.any():
        raise FitError("validation holds out the largest budget", got="one budget", allowed="at least four budgets")
    return np.asarray(held, dtype=np.bool_)


def _relative(noise: float | None, points: Points) -> float | None:
    return None if noise is None else float(noise / np.median(points.loss))


def _plane(kept: Points, held: Points) -> Array:
    """Loss at the held points by log L = c0 + c1·log N + c2·log D."""

    def design(points: Points) -> Array:
        return np.column_stack([np.ones(len(points)), np.log(points.params), np.log(points.tokens)])

    coefficients = np.linalg.lstsq(design(kept), np.log(kept.loss), rcond=None)[0]
    predicted: Array = np.exp(design(held) @ coefficients)
    return predicted


def _optimum(refit: Fit, kept: Points, held: Points, flops_per_token: FlopsPerToken | None) -> HeldOptimum | None:
    """None where there are no budgets, no bracketed bottom to compare with, or no trade-off in the law."""
    variables = {term.variable for term in refit.form.terms}
    if kept.budget is None or held.budget is None or not {"params", "tokens"} <= variables or refit.form.needs:
        return None
    here = isoflop(held, draws=0).bracketed
    before = isoflop(kept, draws=0).bracketed
    if not here or len(before) < 2:
        return None
    own = here[-1]
    best = frontier(refit, flops_per_token=flops_per_token).at(own.budget)
    slope, offset = np.polyfit(np.log([m.budget for m in before]), np.log([m.loss for m in before]), 1)
    line = float(np.exp(offset + slope * np.log(own.budget)))
    return HeldOptimum(
        own.budget, own.loss, best.loss, own.loss - best.loss, own.loss - line, float(np.log(own.params / best.params))
    )
