"""Every check of a fit, on data built to trigger it."""

import dataclasses

import numpy as np
from laws_cases import codes, isoflop_design, isoflop_points, public_points

from scaling.laws.draws import bootstrap
from scaling.laws.fit_checks import fit_checks
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.holdout import hold_out
from scaling.laws.isoflop import isoflop
from scaling.laws.line_study import study_line
from scaling.laws.points import Points
from scaling.laws.seed_noise import SeedNoise
from scaling.laws.sensitivity import objective_row


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
    assert "approaches_disagree" in codes(study_line(points, draws=300, kind="cases").checks)


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
    study = study_line(points, draws=100, conventions={"params_total": with_embedding})
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
