import numpy as np
import pytest
from laws_cases import HOFFMANN, chinchilla_loss, isoflop_design, isoflop_points

from scaling.errors import FitError
from scaling.laws.draws import bootstrap
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.law_intervals import (
    floor_interval,
    frontier_band,
    frontier_loss_interval,
    monotone_band,
    parameter_intervals,
    run_loss_interval,
)
from scaling.laws.noise_groups import NoiseGroups, budget_codes, noise_groups
from scaling.laws.noise_parts import noise_parts, part_draws
from scaling.laws.points import Points


def repeated_design(seeds, *, seed=0.0, scatter=0.0, budget=0.0, budgets=6, sizes=7, draw=0):
    params, tokens, level = isoflop_design(budgets, sizes)
    rng = np.random.default_rng(draw)
    cell = np.repeat(np.arange(len(params)), seeds)
    effects = np.repeat(budget * rng.normal(size=budgets), sizes)[cell]
    errors = seed * rng.normal(size=len(cell)) + scatter * rng.normal(size=len(params))[cell] + effects
    params, tokens, level = params[cell], tokens[cell], level[cell]
    loss = chinchilla_loss(HOFFMANN, params, tokens) * np.exp(errors)
    number = np.tile(np.arange(seeds), budgets * sizes)
    return Points(params, tokens, loss, budget=level, seed=number, cell=cell)


def test_products_are_those_of_the_full_covariance():
    rng = np.random.default_rng(0)
    count = 24
    shared, scatter = (np.unique(rng.integers(0, 12, count), return_inverse=True)[1] for _ in range(2))
    budget = rng.integers(0, 3, count)
    nodes = np.array([[0.3, 0.4, 0.7, 1.1], [0.0, 0.0, 0.0, 0.0], [0.9, 0.9, 0.0, 2.0]])
    columns = rng.normal(size=(count, 5))
    for parts in ((shared, scatter, budget, 3 * budget), (shared, None, None, None), (None, None, budget, None)):
        groups = NoiseGroups(count, *parts)
        log_determinant, gram = groups.products(nodes, columns)
        spread = groups.spread(nodes, columns)
        for node, q in zip(nodes, range(len(nodes)), strict=True):
            own, variances = groups.variances(node[None])
            covariance = own[0] * np.eye(count)
            for variance, codes in zip(variances[0], groups.codes, strict=True):
                covariance += variance * (np.eye(count) if codes is None else codes[:, None] == codes)
            if None not in [codes if codes is None else 0 for codes in parts] or q == 1:
                assert log_determinant[q] == pytest.approx(np.linalg.slogdet(covariance)[1], abs=1e-10)
                np.testing.assert_allclose(gram[q], columns.T @ np.linalg.solve(covariance, columns), rtol=1e-9)
            np.testing.assert_allclose(spread[q], columns.T @ covariance @ columns, rtol=1e-9)


def test_parts_are_recovered_where_the_design_tells_them_apart():
    values = {"seed": [], "scatter": [], "budget": []}
    truth = {"seed": 0.01, "scatter": 0.02, "budget": 0.02}
    inside = dict.fromkeys(truth, 0)
    for draw in range(20):
        points = repeated_design(3, **truth, budgets=8, draw=draw)
        summary = noise_parts(fit(points, objective="log_mse", polished=3)).summary
        nats = float(np.exp(np.log(points.loss).mean()))
        for name, own in values.items():
            part = getattr(summary, name)
            own.append(part.value / nats)
            inside[name] += part.interval[0] <= truth[name] * nats <= part.interval[1]
    for name, own in values.items():
        assert np.median(own) == pytest.approx(truth[name], rel=0.3)
        assert inside[name] >= 17


def test_without_repeated_cells_the_seed_part_is_unknown():
    summary = noise_parts(fit(isoflop_points(noise=0.01, budgets=5), objective="log_mse")).summary
    assert summary.seed is None
    assert summary.line_budget is None
    assert "seed and scatter together" in str(summary)
    assert "no cell has several seeds" in str(summary)


def test_three_budgets_give_an_interval_and_no_value():
    summary = noise_parts(fit(isoflop_points(noise=0.01, budgets=3), objective="log_mse")).summary
    assert summary.budget.value is None
    assert summary.budget.interval[1] > 0
    assert ", budget [" in str(summary)


def test_without_budgets_there_is_only_scatter():
    points = isoflop_points(noise=0.01)
    bare = Points(points.params, points.tokens, points.loss)
    parts = noise_parts(fit(bare, objective="log_mse"))
    assert len(parts.nodes) == 1
    assert parts.summary.budget is None
    alone = Points(points.params, points.tokens, points.loss, budget=1.05 ** np.arange(len(points)))
    assert budget_codes(alone) is None


def test_budgets_within_two_percent_are_one():
    points = isoflop_points(budgets=3, sizes=4)
    shaken = Points(
        points.params, points.tokens, points.loss, budget=points.budget * (1 + 0.004 * np.arange(12) % 0.012)
    )
    assert budget_codes(shaken).tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_runs_of_one_trunk_share_noise():
    points = isoflop_points(budgets=4, sizes=5)
    trunks = np.tile(np.arange(5), 4)
    groups = noise_groups(
        Points(points.params, points.tokens, points.loss, budget=points.budget, trunk=trunks, seed=trunks)
    )
    assert groups.shared.tolist() == trunks.tolist()
    assert groups.scatter is None


def test_a_law_through_every_point_has_no_noise_to_take():
    points = isoflop_points(noise=0.02, budgets=3, sizes=4).select([0, 3, 5, 7, 11])
    with pytest.raises(FitError, match="passes through every point"):
        noise_parts(fit(points, objective="log_mse"))


def test_the_noise_does_not_depend_on_units():
    points = isoflop_points(noise=0.01)
    other = Points(points.params / 1e6, points.tokens / 1e9, points.loss * 2.5, budget=points.budget * 1e-15)
    one, two = (noise_parts(fit(own, objective="log_mse")) for own in (points, other))
    np.testing.assert_allclose(one.probability, two.probability, rtol=1e-4, atol=1e-9)
    assert two.summary.scatter.value == pytest.approx(2.5 * one.summary.scatter.value, rel=1e-4)


def test_points_of_no_weight_have_no_part_in_the_noise():
    points = isoflop_points(noise=0.01)
    loss, weight = points.loss.copy(), np.ones(len(points))
    loss[4] *= 3.0
    weight[4] = 0.0
    held = Points(points.params, points.tokens, loss, budget=points.budget, weight=weight)
    parts = noise_parts(fit(held, objective="log_mse"))
    assert parts.summary.scatter.interval[1] < 0.1
    assert (parts.draw(np.random.default_rng(0), 8)[:, 4] == 0.0).all()


def test_draws_carry_the_budget_part():
    points = repeated_design(1, scatter=0.004, budget=0.012, budgets=5, draw=3)
    made = fit(points, objective="log_mse")
    parts = noise_parts(made)
    with_parts = part_draws(made, parts, draws=300)
    without = bootstrap(made, draws=300, kind="residuals")
    wide, narrow = (frontier(made, draws=d).at(1e21).intervals["loss"] for d in (with_parts, without))
    assert wide[1] - wide[0] > 1.3 * (narrow[1] - narrow[0])
    assert part_draws(made, parts, draws=20, seed=7).vectors.tolist() == (
        part_draws(made, parts, draws=20, seed=7).vectors.tolist()
    )
    with pytest.raises(FitError, match="takes draws"):
        part_draws(made, parts, draws=0)


def test_no_interval_of_e_reaches_the_lowest_loss():
    reached = {"mirrored": 0, "plain": 0}
    for draw in range(12):
        points = isoflop_points(
            {"E": 1.2, "A": 20.0, "B": 60.0, "alpha": 0.4, "beta": 0.4},
            noise=0.025, seed=draw, budgets=3, sizes=5, low=2e10, decades=1.0, spread=3.0,
        )  # fmt: skip
        made = fit(points, objective="log_mse", polished=3)
        draws = part_draws(made, noise_parts(made), draws=200, seed=draw)
        low, high = floor_interval(draws)
        assert 0.0 <= low <= made.parameters["E"] <= high < points.loss.min()
        assert parameter_intervals(draws)["E"] == (low, high)
        assert parameter_intervals(draws)["alpha"] == draws.interval("alpha")
        reached["plain"] += draws.interval("E")[1] > points.loss.min()
    assert reached["plain"] >= 4


def test_a_band_over_compute_falls_and_holds_the_frontier():
    made = fit(isoflop_points(noise=0.03, budgets=3, sizes=5, decades=1.0), objective="log_mse")
    parts = noise_parts(made)
    curve = frontier(made, draws=part_draws(made, parts, draws=200))
    compute = np.geomspace(1e18, 1e22, 9)
    lower, upper = frontier_band(curve, compute)
    assert (np.diff(lower) <= 0).all()
    assert (np.diff(upper) <= 0).all()
    losses = curve.curve(compute)["loss"]
    assert ((lower <= losses) & (losses <= upper)).all()
    low, high = frontier_loss_interval(curve, 1e22)
    assert high <= upper[0]
    assert 0.0 < low < losses[-1]
    of_run = run_loss_interval(curve, parts, 1e18)
    assert of_run[1] - of_run[0] > upper[0] - lower[0]


def test_monotone_ends_only_move_inward():
    lower, upper = np.array([1.0, 1.4, 0.9]), np.array([2.0, 1.8, 2.5])
    low, high = monotone_band(lower, upper)
    assert low.tolist() == [1.4, 1.4, 0.9]
    assert high.tolist() == [2.0, 1.8, 1.8]
