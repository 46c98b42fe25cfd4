from itertools import pairwise

import numpy as np
import pytest

from scaling.errors import FitError
from scaling.laws.compute_multiplier import shared_costs
from scaling.laws.draws import Draws
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.gls_tests import nested_test, smallest_found
from scaling.laws.joint_comparison import compare_lines
from scaling.laws.joint_models import MODELS, embedded, fit_model, model_tests
from scaling.laws.line_frontiers import line_frontier
from scaling.laws.noise_parts import free_jacobian, noise_parts
from scaling.laws.paired_seeds import paired_difference
from scaling.laws.points import Points
from scaling.laws.rank_comparison import compare_ranks
from scaling.laws.resolving import what_would_resolve
from scaling.laws.simultaneous import BandVerdict, band

LAW = {"E": 1.2, "A": 20.0, "B": 60.0, "alpha": 0.4, "beta": 0.4}


def loss_of(p, params, tokens):
    return p["E"] + p["A"] * params ** -p["alpha"] + p["B"] * tokens ** -p["beta"]


def lines_of(laws, budgets=5, sizes=5, *, noise=0.0, seed=0, low=2e10, decades=1.0, levels=None, **columns):
    """Points of several lines, each on an isoFLOP grid around sizes of its own; `levels` are the budgets by line."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, name in enumerate(laws):
        own = (levels or {}).get(name, np.geomspace(low, low * 10**decades, budgets))
        for j, compute in enumerate(own):
            for k, factor in enumerate(np.geomspace(1 / 3, 3, sizes)):
                params = 0.25 * np.sqrt(compute / 6) * factor * np.exp(0.1 * i)
                rows.append((name, params, compute / 6 / params, compute, f"{j}/{k}"))
    line, params, tokens, budget, cell = (np.array(column) for column in zip(*rows, strict=True))
    loss = np.array([loss_of(laws[name], n, d) for name, n, d in zip(line, params, tokens, strict=True)])
    loss = loss * np.exp(noise * rng.normal(size=len(loss)))
    return Points(params, tokens, loss, budget=budget, line=line, cell=cell, **columns)


def scaled(n=1.0, d=1.0):
    return LAW | {"A": LAW["A"] * n**-0.4, "B": LAW["B"] * d**-0.4}


def test_a_line_whose_tokens_and_parameters_are_worth_more_has_that_multiplier():
    points = lines_of({"dense": LAW, "other": scaled(1.3, 1.25)}, noise=1e-4)
    made = compare_lines(points, "dense", draws=50)
    compared = made.line("other")
    assert [round(m.value, 1) for m in compared.multipliers] == [1.6] * 5
    assert compared.headline.value == pytest.approx(1.3 * 1.25, rel=0.02)
    assert compared.shared_exponents.value == pytest.approx(1.3 * 1.25, rel=0.01)
    assert compared.verdict.word == "better"
    assert compared.model == "M3"
    assert compared.verdict.large


def test_the_multiplier_is_the_compute_at_which_the_better_line_reaches_the_worse_loss():
    steep = LAW | {"alpha": 0.45, "A": 30.0}
    points = lines_of({"dense": LAW, "steep": steep}, noise=1e-5)
    compared = compare_lines(points, "dense", draws=20).line("steep")
    for cost in (2e10, 6e10, 2e11):
        own, theirs = (line_frontier(compared.joint.fit, name) for name in ("steep", "dense"))
        reached = max(own.loss(cost)[0], theirs.loss(cost)[0])
        better = own if own.loss(cost)[0] <= theirs.loss(cost)[0] else theirs
        ratio = cost / np.exp(better.log_cost(np.array([reached]))[0])
        expected = ratio if better is own else 1 / ratio
        assert compared.multiplier(cost).value == pytest.approx(expected, rel=1e-9)
        assert better.loss(cost / ratio)[0] == pytest.approx(reached, rel=1e-9)


def test_swapping_the_lines_inverts_the_multiplier():
    points = lines_of({"a": LAW, "b": scaled(0.9, 0.8)}, noise=0.01, seed=3)
    first, second = (compare_lines(points, r, draws=50).lines[0] for r in ("a", "b"))
    np.testing.assert_allclose(first.verdict.band.estimate, -second.verdict.band.estimate, rtol=1e-6)
    assert first.headline.value == pytest.approx(1 / second.headline.value, rel=1e-6)
    assert first.headline.interval[0] == pytest.approx(1 / second.headline.interval[1], rel=1e-6)
    np.testing.assert_allclose(first.differences.estimate, -second.differences.estimate, rtol=1e-6)


def test_units_change_nothing():
    points = lines_of({"a": LAW, "b": scaled(0.9, 0.8)}, noise=0.01, seed=3)
    other = Points(
        points.params / 1e3, points.tokens / 1e5, points.loss * 1.4, budget=points.budget / 1e8, line=points.line
    )  # fmt: skip
    plain = Points(points.params, points.tokens, points.loss, budget=points.budget, line=points.line)
    first, second = (compare_lines(own, "a", draws=50).lines[0] for own in (plain, other))
    np.testing.assert_allclose(second.verdict.band.estimate, first.verdict.band.estimate, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(second.verdict.band.simultaneous, first.verdict.band.simultaneous, rtol=1e-2)
    np.testing.assert_allclose(second.differences.estimate, 1.4 * first.differences.estimate, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(second.costs, first.costs / 1e8)


def test_a_cost_curve_of_6n_gives_the_closed_form():
    points = lines_of({"a": LAW, "b": LAW | {"alpha": 0.43, "A": 27.0}}, noise=0.005)
    curves = {name: lambda params: 6.0 * params for name in ("a", "b")}
    closed = compare_lines(points, "a", draws=30).lines[0]
    followed = closed.on_axis(curves)
    np.testing.assert_allclose(followed.verdict.band.estimate, closed.verdict.band.estimate, atol=1e-4)
    np.testing.assert_allclose(followed.verdict.band.simultaneous, closed.verdict.band.simultaneous, atol=1e-3)
    own = line_frontier(closed.joint.fit, "b", None, curves["b"])
    assert own.log_cost(own.loss(5e10))[0] == pytest.approx(np.log(5e10), abs=1e-4)
    assert np.isinf(own.log_cost(np.array([0.1]))[0])


def test_a_line_twice_as_dear_per_token_is_worth_half_its_tokens():
    points = lines_of({"a": LAW, "b": LAW}, noise=1e-4)
    dear = {"a": lambda params: 6.0 * params, "b": lambda params: 12.0 * params}
    levels = {"a": np.geomspace(2e10, 2e11, 5), "b": np.geomspace(2e10, 2e11, 5)}
    compared = compare_lines(points, "a", draws=20, cost_per_token=dear).lines[0]
    # The same runs cost line b twice as much, so it reaches any loss at twice the cost.
    assert compared.headline.value == pytest.approx(0.5, rel=0.02)
    assert (compared.costs > levels["a"]).all()


def test_the_frontier_of_a_line_is_that_of_its_own_law():
    points = lines_of({"a": LAW, "b": scaled(0.7)}, noise=0.01)
    made = fit_model(points, "M3")
    own = {name: made.parameters[f"{name}[b]"] for name in ("A", "B", "alpha", "beta")} | {"E": made.parameters["E"]}
    grid = np.geomspace(1e3, 1e7, 20001)
    expected = loss_of(own, grid, 5e10 / 6 / grid).min()
    assert line_frontier(made, "b").loss(5e10)[0] == pytest.approx(expected, rel=1e-7)
    common = fit_model(points, "M0")
    assert line_frontier(common, "b").loss(5e10)[0] == pytest.approx(frontier(common).loss_at(5e10), rel=1e-9)


def test_a_line_with_two_budgets_gets_one_multiplier_and_says_what_is_assumed():
    laws = {"dense": LAW, "other": scaled(1.2, 1.1), "short": scaled(1.5)}
    short = {"short": np.geomspace(2e10, 2e11, 5)[[1, 3]]}
    made = compare_lines(lines_of(laws, noise=1e-4, levels=short), "dense", draws=40)
    compared = made.line("short")
    assert compared.model == "M1"
    assert "too few budgets for a law of short" in compared.assumption
    assert compared.headline.value == pytest.approx(1.5, rel=0.05)
    assert len(compared.costs) == 2
    assert compared.shared_exponents is None
    assert made.line("other").model == "M3"
    assert set(made.models["M3"].fit.layout.lines) == {"dense", "other"}


def test_lines_that_share_no_compute_are_left_out_with_a_reason():
    laws = {"a": LAW, "b": LAW, "far": LAW}
    levels = {"far": np.geomspace(1e13, 1e14, 4)}
    made = compare_lines(lines_of(laws, noise=0.005, levels=levels), "a", draws=20)
    assert [line.line for line in made.lines] == ["b"]
    assert "share no compute" in made.left_out["far"]
    with pytest.raises(FitError, match="not compared"):
        made.line("far")
    with pytest.raises(FitError, match="no line can be compared"):
        compare_lines(lines_of({"a": LAW, "far": LAW}, levels=levels, noise=0.01), "a", draws=20)


def test_what_cannot_be_compared_is_refused_in_words():
    points = lines_of({"a": LAW}, noise=0.01)
    with pytest.raises(FitError, match="reference line"):
        compare_lines(points, "a")
    two = lines_of({"a": LAW, "b": LAW}, noise=0.01)
    with pytest.raises(FitError, match="reference line"):
        compare_lines(two, "c")
    one_budget = lines_of({"a": LAW, "b": LAW}, budgets=1, noise=0.01)
    with pytest.raises(FitError, match="budget"):
        compare_lines(one_budget, "a")


def test_lines_on_different_budgets_are_compared_over_the_range_they_share():
    levels = {"b": np.geomspace(3e10, 3e11, 4)}
    points = lines_of({"a": LAW, "b": LAW}, levels=levels)
    costs = shared_costs(points, "b", "a", {})
    assert costs[0] == pytest.approx(3e10)
    assert costs[-1] == pytest.approx(2e11)


def test_smaller_models_are_points_of_the_larger_ones():
    points = lines_of({"a": LAW, "b": scaled(0.8, 0.9)}, noise=0.01)
    fits = [fit_model(points, model) for model in ("M0", "M1", "M2", "M3")]
    for small, large in pairwise(fits):
        assert large.objective_value <= small.objective_value * (1 + 1e-9)
        vector = embedded(small, large)
        names = large.layout.natural(vector[None])
        assert names["alpha" if "alpha" in names else "alpha[a]"][0] == pytest.approx(
            small.parameters["alpha"] if "alpha" in small.parameters else small.parameters["alpha[a]"]
        )


def test_the_tests_find_what_is_there_and_not_what_is_not():
    rejected = np.zeros((3, 3))
    truths = (LAW, scaled(0.75), scaled(1.1, 0.75))
    for row, law in enumerate(truths):
        for seed in range(12):
            points = lines_of({"a": LAW, "b": law}, noise=0.004, seed=100 * row + seed)
            fits = {model: fit_model(points, model) for model in MODELS}
            rejected[row] += [test.rejected for test in model_tests(fits, noise_parts(fits["M3"]), "a")]
    assert rejected[0].sum() <= 6
    assert rejected[1, 0] >= 10
    assert (rejected[1, 1:] <= 4).all()
    assert rejected[2, 1] >= 10
    assert rejected[2, 2] <= 4


def test_the_generalised_test_without_groups_is_the_f_test():
    from scipy.special import betainc

    points = lines_of({"a": LAW}, noise=0.01)
    bare = Points(points.params, points.tokens, points.loss)
    small = fit(bare, objective="log_mse")
    extra = np.log(bare.params)[:, None] ** 2
    made = nested_test(small, noise_parts(small), extra, extra[:, 0], names=("a", "b"), alternative="any")
    basis = np.linalg.qr(free_jacobian(small))[0]
    direction = np.linalg.qr(extra - basis @ (basis.T @ extra))[0]
    residual = small.residuals - basis @ (basis.T @ small.residuals)
    explained = float((direction.T @ residual)[0] ** 2)
    freedom = len(bare) - 6
    statistic = explained / ((residual @ residual - explained) / freedom)
    tail = betainc(freedom / 2, 0.5, freedom / (freedom + statistic))
    assert made.p_value == pytest.approx(tail, rel=1e-6)
    assert made.extra == 1


def test_the_power_is_eighty_percent_at_the_smallest_change_found():
    points = lines_of({"a": LAW}, noise=0.01)
    small = fit(points, objective="log_mse")
    parts = noise_parts(small)
    hinge = np.maximum(np.log(points.params) - np.log(points.params).mean(), 0.0)
    factor = smallest_found(parts, small, hinge)
    made = nested_test(small, parts, hinge[:, None], factor * hinge, names=("a", "b"), alternative="a trend")
    assert made.power == pytest.approx(0.8, abs=0.1)


def test_the_band_is_the_sup_t_of_the_draws():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(200_000, 4)) * [1.0, 2.0, 0.5, 1.0]
    made = band(np.zeros(4), draws)
    assert made.critical == pytest.approx(2.49, abs=0.03)  # Šidák for four independent normals
    np.testing.assert_allclose(made.pointwise, np.array([1.96, 3.92, 0.98, 1.96]), rtol=0.02)
    inside = (np.abs(draws) <= made.simultaneous).all(axis=1).mean()
    assert inside == pytest.approx(0.95, abs=0.001)
    assert band(np.zeros(1), rng.normal(size=(100_000, 1))).critical == pytest.approx(1.96, abs=0.03)


@pytest.mark.parametrize(
    ("estimate", "reach", "word", "margin"),
    [
        ([0.3, 0.2], [0.1, 0.3], "better", np.expm1(0.5)),
        ([-0.3, -0.2], [0.1, 0.3], "worse", np.expm1(0.5)),
        ([0.02, -0.05], [0.1, 0.1], "equivalent", np.expm1(0.15)),
        ([0.02, -0.05], [0.1, 0.2], "not resolved", np.expm1(0.25)),
        ([0.3, -0.3], [0.1, 0.1], "not resolved", np.expm1(0.4)),
    ],
)
def test_the_band_decides_the_word(estimate, reach, word, margin):
    own = band(np.array(estimate), np.empty((0, 2)))
    made = BandVerdict(type(own)(np.array(estimate), np.array(reach), np.array(reach), 2.4), 0.2)
    assert made.word == word
    assert made.smallest_margin == pytest.approx(margin)
    assert made.crosses == (estimate == [0.3, -0.3])
    assert BandVerdict(own, 0.2).word == "not resolved"


def test_matched_seeds_narrow_the_band():
    points = lines_of({"a": LAW, "b": scaled(0.9)}, budgets=5, sizes=6)
    rng = np.random.default_rng(1)
    common = dict(zip(np.unique(points.cell), 0.02 * rng.normal(size=30), strict=True))
    own = np.array([common[cell] for cell in points.cell]) + 0.002 * rng.normal(size=len(points))
    loss = points.loss * np.exp(own)
    columns = {"budget": points.budget, "line": points.line}
    matched = Points(points.params, points.tokens, loss, cell=points.cell, seed=["0"] * len(points), **columns)
    alone = Points(points.params, points.tokens, loss, **columns)
    first, second = (compare_lines(p, "a", draws=300).lines[0] for p in (matched, alone))
    assert (first.verdict.band.simultaneous < 0.7 * second.verdict.band.simultaneous).all()
    assert first.joint.parts.summary.matched.value > 0.6
    paired = paired_difference(matched, "b", "a")
    assert paired.runs == 30
    assert paired.interval[0] < paired.difference < paired.interval[1]


def test_a_paired_difference_is_students_t_of_the_matched_runs():
    loss = [2.0, 2.2, 2.5, 2.1, 2.25, 2.58, 9.0]
    line, seed = ["a", "a", "a", "b", "b", "b", "b"], [0, 1, 2, 0, 1, 2, 3]
    points = Points(np.ones(7), np.ones(7), loss, line=line, seed=seed)
    made = paired_difference(points, "b", "a")
    differences = np.array([0.1, 0.05, 0.08])
    assert made.difference == pytest.approx(differences.mean())
    assert made.interval[1] - made.difference == pytest.approx(4.302653 * differences.std(ddof=1) / 3**0.5, rel=1e-6)
    assert made.correlation == pytest.approx(np.corrcoef([2.0, 2.2, 2.5], [2.1, 2.25, 2.58])[0, 1])
    assert "3 matched runs" in str(made)
    with pytest.raises(FitError, match="same seeds"):
        paired_difference(points, "b", "c")


def ranks(factor, seed, *, kappa=1.0, noise=0.005, ratios=(0.25,)):
    laws = {"dense": LAW} | {f"low_rank@{ratio}": LAW | {"B": LAW["B"] * factor} for ratio in ratios}
    points = lines_of(laws, budgets=4, sizes=5)
    of_line = {"dense": np.nan} | {f"low_rank@{ratio}": ratio for ratio in ratios}
    ratio = np.array([of_line[line] for line in points.line])
    low = ~np.isnan(ratio)
    factorized = np.where(low, 0.7 * points.params, 0.0)
    worth = points.params - factorized + kappa ** np.where(low, np.log2(1 / np.where(low, ratio, 1)), 1) * factorized
    loss = LAW["E"] + LAW["A"] * worth**-0.4 + LAW["B"] * np.where(low, factor, 1.0) * points.tokens**-0.4
    loss = loss * np.exp(noise * np.random.default_rng(seed).normal(size=len(loss)))
    return Points(
        points.params, points.tokens, loss, budget=points.budget, line=points.line, rank_ratio=ratio,
        factorized_params=factorized, relative_rank=np.where(low, np.where(low, ratio, 1.0), 1.0),
    )  # fmt: skip


def test_kappa_is_tested_against_a_data_term_per_line():
    rejected = {
        factor: sum(compare_ranks(ranks(factor, s), draws=5).test.rejected for s in range(10)) for factor in (1.0, 1.1)
    }
    assert rejected[1.1] >= 9
    assert rejected[1.0] <= 2
    made = compare_ranks(ranks(1.1, 0), draws=200)
    assert made.kappa[0.25][0] < 0.9
    low, high = made.kappa_beside[0.25][1]
    assert low < 1.0 < high
    assert made.test.power > 0.8
    assert made.gamma is None


def test_kappa_of_three_ratios_is_a_power_of_the_relative_rank():
    made = compare_ranks(ranks(1.0, 0, kappa=0.8, noise=1e-5, ratios=(0.5, 0.25, 0.125)), draws=40)
    assert {ratio: round(value, 2) for ratio, (value, _) in made.kappa.items()} == {0.125: 0.51, 0.25: 0.64, 0.5: 0.8}
    assert made.gamma[0] == pytest.approx(np.log2(1 / 0.8), rel=0.01)
    assert not made.test.rejected


def test_further_runs_are_tried_and_priced():
    points = lines_of({"a": LAW, "b": scaled(0.95)}, noise=0.004, budgets=4, seed=2)
    compared = compare_lines(points, "a", draws=200).lines[0]
    made = what_would_resolve(compared)
    budgets = [runs for runs in made.tried if runs.kind == "budgets"]
    seeds = [runs for runs in made.tried if runs.kind == "seeds"]
    assert [runs.runs for runs in seeds] == [40, 120, 280]
    assert [runs.runs for runs in budgets] == [10, 20, 30]
    assert [runs.chance for runs in budgets] == sorted(runs.chance for runs in budgets)
    assert budgets[0].compute == pytest.approx(10 * 2e11 * 10 ** (1 / 3), rel=1e-6)
    assert made.cheapest is None or made.cheapest.chance >= 0.8
    hopeless = compare_lines(lines_of({"a": LAW, "b": LAW}, noise=0.05, budgets=3), "a", draws=100).lines[0]
    assert what_would_resolve(hopeless).cheapest is None
    assert "nothing in reach" in str(what_would_resolve(hopeless))


def test_two_lines_of_one_law_are_seldom_told_apart():
    told = 0
    for seed in range(12):
        points = lines_of({"a": LAW, "b": LAW}, budgets=3, noise=0.02, seed=seed)
        told += compare_lines(points, "a", draws=60).lines[0].verdict.word in ("better", "worse")
    assert told <= 1


def test_draws_of_a_comparison_are_those_of_its_fit():
    compared = compare_lines(lines_of({"a": LAW, "b": LAW}, noise=0.01), "a", draws=60, seed=4).lines[0]
    assert isinstance(compared.joint.draws, Draws)
    assert compared.joint.draws.drawn == 60
    assert not compared.unreliable
    assert compared.multiplier(1e13).extrapolated
    assert compared.shared_exponents_at(1e13).model == "M2"
    assert not compared.headline.extrapolated
