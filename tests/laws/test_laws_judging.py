"""Audit, noise, selection, sensitivity, verdicts, checks: each on data built to show the thing."""

import dataclasses

import numpy as np
import pytest
from laws_cases import HOFFMANN, chinchilla_loss, isoflop_design, isoflop_points, public_points

from scaling.errors import FitError
from scaling.laws.comparison import axes_checks, word_for
from scaling.laws.draws import bootstrap
from scaling.laws.fit_checks import fit_checks
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.holdout import hold_out
from scaling.laws.isoflop import isoflop
from scaling.laws.line_study import study_line
from scaling.laws.points import Points
from scaling.laws.seed_noise import SeedNoise, seed_noise
from scaling.laws.sensitivity import form_range, objective_row
from scaling.laws.tuning_bias import (
    Trials,
    bootstrap_tuned,
    choose,
    expected_minimum,
    selection_checks,
    tuned_deviations,
)


def codes(checks):
    return {check.code for check in checks}


# --- hold-out
# -----------------------------------------------------------------------------------------------------------------


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


# --- seed noise
# ------------------------------------------------------------------------------------------------------------


def test_seed_noise_is_pooled_over_cells():
    rng = np.random.default_rng(0)
    cells = np.repeat(np.arange(200), 3)
    loss = 3 + 0.02 * rng.normal(size=600)
    points = Points(
        np.repeat(1e7 + np.arange(200), 3), np.full(600, 1e9), loss, cell=cells, seed=np.tile([0, 1, 2], 200)
    )
    noise = seed_noise(points)
    assert noise.sigma == pytest.approx(0.02, rel=0.1)
    assert noise.sigma_log == pytest.approx(0.02 / 3, rel=0.1)
    assert (noise.cells, noise.freedom) == (200, 400)
    low, high = noise.interval
    assert low < 0.02 < high
    scipy_stats = pytest.importorskip("scipy.stats")
    assert low == pytest.approx(noise.sigma * np.sqrt(400 / scipy_stats.chi2.ppf(0.975, 400)), rel=1e-3)


def test_seed_noise_is_unknown_without_repeats():
    assert seed_noise(isoflop_points(noise=0.01)) is None
    points = Points([1e7, 1e7], [1e9, 1e9], [3.0, 3.1], seed=[0, 0])
    assert seed_noise(points) is None


# --- selection
# -------------------------------------------------------------------------------------------------------------


def test_expected_minimum_of_normal_draws():
    rng = np.random.default_rng(0)
    for k in (2, 3, 5):
        assert expected_minimum(k) == pytest.approx(-rng.normal(size=(400_000, k)).min(axis=1).mean(), abs=5e-3)
    assert expected_minimum(1) == 0.0


def trials(settings=5, noise=0.0, seed=0, centre=0.0, depth=0.0, seeds=1):
    """Every cell of an isoFLOP grid tuned over `settings` rates, with a parabola of `depth` around `centre`."""
    params, tokens, budget = isoflop_design(4, 5)
    base = chinchilla_loss(HOFFMANN, params, tokens)
    x = np.linspace(-1, 1, settings)
    rng = np.random.default_rng(seed)
    shape = (len(base), settings, seeds)
    loss = base[:, None, None] + depth * ((x - centre) ** 2)[None, :, None] + noise * rng.normal(size=shape)

    def spread(column):
        return np.broadcast_to(np.asarray(column).reshape(-1, 1, 1), shape).ravel()

    rates = np.broadcast_to((0.02 * np.exp(x))[None, :, None], shape).ravel()
    points = Points(
        spread(params),
        spread(tokens),
        loss.ravel(),
        budget=spread(budget),
        cell=spread(np.arange(len(base))),
        seed=np.broadcast_to(np.arange(seeds), shape).ravel(),
    )
    return Trials(points, np.array([f"{r:.4g}" for r in rates]), rates), base


def test_a_tuned_cell_is_the_bottom_of_its_parabola():
    runs, base = trials(depth=0.3, centre=0.2)
    points, choices = choose(runs)
    assert points.loss == pytest.approx(base, rel=1e-9)
    assert all(choice.parabola and not choice.at_edge for choice in choices)


def test_far_settings_do_not_tilt_the_parabola():
    """A loss flat below the best rate and steep above it, as in results/ablation; its least value is 2."""
    rates = 0.01 * 2.0 ** np.arange(-2, 3)
    x = np.log(rates / 0.01)
    loss = 2.0 + 0.05 * x**2 + np.where(x > 0, 0.3 * x**3, 0.0)
    points = Points(np.full(5, 1e6), np.full(5, 1e8), loss, cell=np.full(5, "one"))
    kept, (choice,) = choose(Trials(points, rates.astype(str), rates))
    assert choice.parabola
    assert kept.loss[0] == pytest.approx(2.0, abs=0.01)


def test_choosing_among_equal_settings_is_biased_by_what_is_reported():
    runs, base = trials(noise=0.01, settings=3, seeds=2)
    runs = Trials(runs.points, runs.setting)  # settings without an order: no parabola
    points, choices = choose(runs, sigma=0.01)
    found = float((np.repeat(base, 2) - points.loss).mean())
    reported = float(np.mean([choice.bias_nats for choice in choices]))
    assert found == pytest.approx(0.846 * 0.01 / np.sqrt(2), abs=0.003)
    assert reported == pytest.approx(found, abs=0.003)
    check = selection_checks(choices)[0]
    assert check.code == "selection_bias"
    assert f"{reported:.4f} nats on average" in check.message
    assert codes(selection_checks(choose(runs)[1])) == {"selection_bias_unknown"}


def test_a_clear_winner_is_not_biased():
    _, choices = choose(trials(noise=0.01, depth=2.0)[0], sigma=0.01)
    assert max(choice.bias_nats for choice in choices) < 0.001
    assert {choice.contenders for choice in choices} == {1}
    untuned, _ = trials(noise=0.01, settings=1)
    points, choices = choose(untuned, sigma=0.01)
    assert {choice.bias_nats for choice in choices} == {0.0}
    assert points.loss == pytest.approx(untuned.points.loss)
    assert selection_checks(choices) == ()


def test_the_winner_keeps_its_seeds_and_fresh_ones_do_not_choose():
    """Three settings with one seed; the winner confirmed with a second seed that went badly."""
    runs = Points([1e7] * 4, [1e9] * 4, [3.00, 2.90, 2.95, 3.20], cell=["a"] * 4, seed=[0, 0, 0, 1], line=["dense"] * 4)
    rates = np.array([0.01, 0.02, 0.04, 0.02])
    points, choices = choose(Trials(runs, np.array([f"{r:g}" for r in rates]), rates), sigma=0.05)
    assert choices[0].setting == "0.02"
    bottom = np.polynomial.polynomial.polyfit(np.log(rates[:3]), runs.loss[:3], 2)
    shift = bottom[0] - bottom[1] ** 2 / (4 * bottom[2]) - 2.90
    assert points.loss == pytest.approx([2.90 + shift, 3.20 + shift])
    assert choices[0].loss == pytest.approx(3.05 + shift)


def test_an_optimum_at_the_edge_of_the_rates_is_noticed():
    _, choices = choose(trials(depth=0.3, centre=1.4)[0])
    assert all(choice.at_edge for choice in choices)
    assert "rate_at_edge" in codes(selection_checks(choices))


def test_draws_choose_again():
    runs, _ = trials(noise=0.01, depth=0.02)
    points, _ = choose(runs, sigma=0.01)
    made = fit(points, objective="log_mse")
    again = bootstrap_tuned(made, tuned_deviations(runs, made, draws=100, seed=0, sigma=0.01))
    assert again.failed == 0
    low, high = again.interval("N")
    assert low < made.exponents["N"] < high


def test_intervals_that_choose_again_hold_the_truth_where_others_do_not():
    """Five equally good settings in every cell: the losses kept are too low by one σ. Truth: the frontier's loss."""
    truth = frontier(fit(trials()[0].points)).at(1e20).loss
    again, plain = 0, 0
    for seed in range(20):
        runs = trials(noise=0.01, seed=seed)[0]
        runs = Trials(runs.points, runs.setting)
        made = fit(choose(runs)[0], objective="log_mse")
        tuned = bootstrap_tuned(made, tuned_deviations(runs, made, draws=100, seed=1, sigma=0.01))
        for draws in (tuned, bootstrap(made, draws=100, seed=1, kind="residuals")):
            low, high = np.quantile(frontier(made, draws=draws).loss_draws(1e20), [0.025, 0.975])
            again += draws is tuned and low <= truth <= high
            plain += draws is not tuned and low <= truth <= high
    assert again >= 17
    assert plain <= 12


def test_trials_need_cells():
    with pytest.raises(FitError, match="cell"):
        Trials(isoflop_points(), np.zeros(35))


# --- sensitivity
# -----------------------------------------------------------------------------------------------------------


def test_objective_row_has_the_four_columns_and_agrees_on_exact_data():
    row = objective_row(isoflop_points())
    assert [(c.objective, c.delta) for c in row] == [
        ("log_huber", 1e-4),
        ("log_huber", 1e-3),
        ("log_huber", 1e-2),
        ("log_mse", None),
    ]
    assert all(c.exponents["N"] == pytest.approx(0.3658 / 0.7136, rel=1e-6) for c in row)


def test_form_range_grows_with_the_distance_from_the_data():
    made = fit(isoflop_points(noise=0.005))
    minima = isoflop(made.points, draws=10)
    near, far = (form_range(made, compute, isoflop=minima) for compute in (1e21, 1e26))
    assert any("E = 0" in name for name in near.members)
    assert any("approach 2" in name for name in near.members)

    def width(spread):
        low, high = spread.ranges["loss"]
        return high / low

    assert width(far) > 2 * width(near) - 1 > 1
    assert near.ranges["N"][0] <= frontier(made).at(1e21).params <= near.ranges["N"][1]


# --- verdicts
# --------------------------------------------------------------------------------------------------------------


def test_a_word_takes_an_interval_without_zero():
    assert word_for((-0.2, -0.1)) == "better"
    assert word_for((0.1, 0.2)) == "worse"
    assert word_for((-0.1, 0.2)) == word_for(None) == "not resolved"


def test_verdicts_that_disagree_are_checked():
    made = axes_checks({"exact": "better", "device_seconds": "worse"}, ("a", "b"))
    assert codes(made) == {"verdict_depends_on_cost"}
    assert "at equal device seconds worse" in made[0].message
    assert axes_checks({"exact": "better", "device_seconds": "better"}, ("a", "b")) == ()


# --- checks: every code on data built to trigger it
# --------------------------------------------------------------------------


def collinear():
    params = np.geomspace(1e7, 1e10, 20)
    loss = 1.8 + 900 * params**-0.35
    return Points(params, 20 * params, loss * np.exp(0.005 * np.random.default_rng(0).normal(size=20)))


def test_a_clean_law_raises_nothing():
    rng = np.random.default_rng(0)
    points = isoflop_points(budgets=6, sizes=8)
    twice = points.select(np.repeat(np.arange(48), 2))
    noisy = Points(
        twice.params,
        twice.tokens,
        twice.loss * np.exp(0.002 * rng.normal(size=96)),
        budget=twice.budget,
        seed=np.tile([0, 1], 48),
    )
    assert study_line(noisy, draws=200, objective="log_mse").checks == ()


def test_degenerate_and_bound():
    assert codes(fit_checks(fit(collinear()))) & {"fit_degenerate", "fit_at_bound"}
    no_floor = isoflop_points({"E": 0.0, "A": 30.0, "B": 60.0, "alpha": 0.2, "beta": 0.2}, noise=0.004, seed=4)
    found = codes(fit_checks(fit(no_floor)))
    assert {"fit_at_bound", "e_not_identified"} <= found


def test_few_points_and_budgets_and_duplicates():
    points = isoflop_points(budgets=3, sizes=4, noise=0.01)
    found = codes(fit_checks(fit(points)))
    assert {"few_points", "few_budgets", "seed_noise_unknown"} <= found
    repeated = points.select([*range(12), 0, 1])
    message = next(c.message for c in fit_checks(fit(repeated)) if c.code == "duplicate_points")
    assert "2 points repeat" in message


def test_draws_that_all_failed_or_ran_away_give_no_number_and_no_warning():
    made = fit(isoflop_points({"E": 0.1, "A": 30.0, "B": 60.0, "alpha": 0.2, "beta": 0.2}, noise=0.04))
    draws = bootstrap(made, draws=20)
    none = dataclasses.replace(draws, vectors=draws.vectors[:0], failed=20)
    assert none.correlations == {}
    assert np.isnan(none.interval("alpha")).all()
    far = draws.vectors.copy()
    far[:, [1, 3]] = 1e-3  # exponents at their bound: the optimum lies anywhere
    far[::2, 0] += 60.0
    found = frontier(made, draws=dataclasses.replace(draws, vectors=far)).at(1e24)
    assert np.isfinite([*found.intervals["N"], *found.intervals["loss"]]).all()


def test_wide_floor_and_unreliable_interval():
    points = isoflop_points({"E": 0.1, "A": 30.0, "B": 60.0, "alpha": 0.2, "beta": 0.2}, noise=0.04)
    made = fit(points)
    found = codes(fit_checks(made, draws=bootstrap(made, draws=200, kind="residuals")))
    assert {"interval_unreliable", "e_not_identified"} <= found


def test_minimum_at_edge():
    points = isoflop_points(budgets=5, sizes=7)
    small = points.select(points.params < 0.09 * points.budget**0.5)
    found = fit_checks(fit(small), isoflop=isoflop(small, draws=10))
    assert [c for c in found if c.code == "minimum_at_edge"]
    compute = points.budget * np.geomspace(1.0, 1.1, len(points))  # a column of compute is no isoFLOP design
    alone = dataclasses.replace(points, budget=compute)
    [check] = [c for c in fit_checks(fit(alone), isoflop=isoflop(alone, draws=10)) if c.code == "minimum_at_edge"]
    assert "31 more: 1 size" in check.message


def test_approaches_disagree():
    points = public_points("llama3_isoflop.csv")
    assert "approaches_disagree" in codes(study_line(points, draws=300, kind="cases", with_holdout=False).checks)


def test_objective_sensitive_and_outliers():
    points = isoflop_points(noise=0.001)
    spoiled = points.loss.copy()
    spoiled[6::7] *= 1.1  # the largest size of each budget was trained badly: most points do not mind, squares do
    bad = points.with_loss(spoiled)
    made = fit(bad)
    found = codes(fit_checks(made, sensitivity=objective_row(bad)))
    assert {"objective_sensitive", "outliers"} <= found


def test_n_convention():
    points = isoflop_points(noise=0.002)
    embedding = 3e4 * points.params**0.5
    with_embedding = Points(points.params + 30 * embedding, points.tokens, points.loss, budget=points.budget)
    study = study_line(points, draws=100, conventions={"params_total": with_embedding}, with_holdout=False)
    assert "n_convention" in codes(study.checks)


def test_extrapolation():
    made = fit(isoflop_points())
    assert "extrapolation" in codes(fit_checks(made, compute=[1e24]))
    assert "extrapolation" not in codes(fit_checks(made, compute=[5e22]))


def test_residuals_exceed_noise_and_starts():
    made = fit(isoflop_points(noise=0.02))
    noise = SeedNoise(sigma=0.005, sigma_log=0.002, cells=3, freedom=6)
    assert "residuals_exceed_noise" in codes(fit_checks(made, noise=noise))
    rough = dataclasses.replace(made, starts_agreement=0.125, status="not_converged")
    assert {"starts_disagree", "fit_not_converged"} <= codes(fit_checks(rough))


def test_failed_hold_out_is_a_check():
    # A kink that no sum of powers can follow, and a straight line in log-log can.
    params, tokens, budget = isoflop_design(6, 7)
    loss = 40 * params**-0.06 * tokens**-0.05
    rng = np.random.default_rng(1)
    points = Points(params, tokens, loss * np.exp(0.002 * rng.normal(size=len(loss))), budget=budget)
    held = hold_out(points, draws=50)
    assert not held.beats_line
    assert "audit_failed" in codes(fit_checks(fit(points), holdout=held))
