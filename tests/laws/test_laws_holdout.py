import dataclasses

import numpy as np
import pytest
from laws_cases import codes, isoflop_points, public_points

from scaling.errors import FitError
from scaling.laws.fit_checks import fit_checks
from scaling.laws.fitting import fit
from scaling.laws.holdout import hold_out
from scaling.laws.tuning_bias import (
    Trials,
    choose,
)


def test_hold_out_of_a_true_law_beats_the_line_and_covers():
    held = hold_out(isoflop_points(noise=0.004, budgets=6), objective="log_mse", noise=0.01, kind="residuals")
    assert held.beats_line
    assert held.rms_nats < 0.05
    assert held.line_rms_nats > 2 * held.rms_nats
    assert held.share_inside >= 0.8
    run = held.runs[0]
    assert run.error_nats == pytest.approx(run.observed - run.predicted)
    assert run.error_sigma == pytest.approx(run.error_nats / 0.01)
    assert held.refit.points.budget.max() < held.budget


def test_hold_out_of_an_exact_law_has_no_error_and_the_optimum_only_approach_twos_bias():
    held = hold_out(isoflop_points(budgets=6, spread=3.0), draws=50)
    assert held.rms_nats < 1e-9
    assert abs(held.optimum.error_nats) < 2e-3
    assert abs(held.optimum.log_params_error) < 0.1
    assert held.optimum.line_error_nats > 0.01


def test_hold_out_catches_a_law_that_breaks_at_the_top():
    points = isoflop_points(budgets=6, noise=0.002)
    broken = points.with_loss(np.where(points.budget == points.budget.max(), points.loss * 1.15, points.loss))
    held = hold_out(broken)
    assert held.share_inside < 0.2
    assert all(run.error_nats > 0 for run in held.runs)
    assert "audit_failed" in codes(fit_checks(fit(broken), holdout=held)) or held.beats_line


def test_hold_out_without_budgets_takes_the_most_compute():
    held = hold_out(public_points("chinchilla_svg.csv").drop_highest(5), draws=100)
    assert held.budget is None
    assert 40 <= len(held.runs) <= 50
    assert held.beats_line


def test_hold_out_of_tuned_cells_includes_the_uncertainty_of_the_choices():
    points = isoflop_points(budgets=6, noise=0.001)
    cells = np.array([f"cell {n}" for n in range(len(points))])
    settings, sigma = 5, 0.03
    rng = np.random.default_rng(0)
    every = dataclasses.replace(points, cell=cells).select(np.repeat(np.arange(len(points)), settings))
    every = every.with_loss(every.loss + sigma * rng.normal(size=len(every)))
    names = np.array([f"lr {n % settings}" for n in range(len(every))])
    trials = Trials(every, names, np.full(len(every), np.nan))
    kept = choose(trials, sigma=sigma)[0]
    unsure, sure = (hold_out(kept, draws=200, kind="residuals", noise=sigma, trials=t) for t in (trials, None))
    widths = [np.mean([run.interval[1] - run.interval[0] for run in held.runs]) for held in (unsure, sure)]
    middles = [np.mean([sum(run.interval) / 2 for run in held.runs]) for held in (unsure, sure)]
    assert widths[0] > 0.5 * widths[1]
    assert middles[0] > middles[1] + 0.3 * sigma  # every draw takes the bias of choosing away


def test_hold_out_of_three_budgets_is_refused():
    with pytest.raises(FitError, match="few compute budgets"):
        hold_out(isoflop_points(budgets=3))
