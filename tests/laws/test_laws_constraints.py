import numpy as np
import pytest
from laws_cases import HOFFMANN, chinchilla_loss, isoflop_points, table
from scipy.optimize import least_squares
from test_laws_forms import repeated_points, two_lines

from scaling.errors import FitError
from scaling.laws.draws import bootstrap
from scaling.laws.fitting import fit
from scaling.laws.forms import FORMS, SKALING, joint
from scaling.laws.frontier import frontier
from scaling.laws.line_study import study_line
from scaling.laws.objectives import automatic_width, objective_named
from scaling.laws.points import Points
from scaling.laws.profile_likelihood import profile_intervals
from scaling.laws.solver.objective_terms import System
from scaling.laws.solver.parameters import lay_out

SKEWED = {"E": 1.1, "A": 27000.0, "alpha": 0.51, "B": 6400.0, "beta": 0.37, "k": 0.4}


def skaling_points(noise=0.0, seed=0):
    points = isoflop_points()
    loss = SKALING.loss(SKEWED, points.params, points.tokens)
    return points.with_loss(loss * np.exp(noise * np.random.default_rng(seed).normal(size=len(loss))))


def test_skaling_is_found_from_its_own_points():
    made = fit(skaling_points(), "skaling")
    assert made.parameters == pytest.approx(SKEWED, rel=1e-4)
    assert made.exponents["N"] == pytest.approx(0.37 / 0.88, rel=1e-5)
    assert made.loss(1e9, 2e10) == pytest.approx(float(SKALING.loss(SKEWED, np.array(1e9), np.array(2e10))), rel=1e-6)


def test_skaling_at_power_one_is_chinchilla():
    points = isoflop_points(noise=0.005)
    one, other = fit(points, "skaling", fixed={"k": 1.0}), fit(points, "chinchilla")
    assert one.objective_value == pytest.approx(other.objective_value, rel=1e-9)
    assert {name: one.parameters[name] for name in HOFFMANN} == pytest.approx(other.parameters, rel=1e-5)


def test_skaling_of_the_published_tuned_runs():
    columns = table("tables/oellm_lr_gbsz_min_smooth.csv")
    n, d, loss = (np.array(columns[name], dtype=float) for name in ("N", "D", "loss"))
    kept = np.abs(n / 1.7135e9 - 1) > 0.01  # the size its authors hold out
    points = Points(n[kept], d[kept], loss[kept])
    made, plain = fit(points, "skaling", delta=1e-3), fit(points, "chinchilla", delta=1e-3)
    assert len(points) == 45
    assert made.objective_value == pytest.approx(4.2766e-5, rel=1e-4)
    assert plain.objective_value == pytest.approx(21.523e-5, rel=1e-4)
    assert (made.parameters["E"], plain.parameters["E"]) == pytest.approx((1.074, 1.489), abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_skaling_reaches_the_optimum_of_many_starts(seed):
    points = skaling_points(noise=0.01, seed=seed)
    n, d = np.log(points.params), np.log(points.tokens)
    n, d, target = n - n.mean(), d - d.mean(), np.log(points.loss)

    def residual(v):
        inner = np.logaddexp(v[0] - v[1] * n, v[2] - v[3] * d)
        return np.log(v[5] + np.exp(v[4] * inner)) - target

    rng = np.random.default_rng(seed)
    begins = rng.uniform([-2, 0.05, -2, 0.05, 0.1, 0], [3, 1.5, 3, 1.5, 2, 2], size=(40, 6))
    bounds = ([-700, 1e-3, -700, 1e-3, 5e-3, 0], [700, 5, 700, 5, 5, points.loss.max()])
    rival = min(2 * least_squares(residual, begin, bounds=bounds, x_scale="jac").cost for begin in begins)
    assert fit(points, "skaling", objective="log_mse").objective_value <= rival * (1 + 1e-6)


@pytest.mark.parametrize("objective", ["log_mse", "mse"])
def test_derivatives_of_a_floor_outside_a_power(objective):
    points = two_lines(HOFFMANN | {"A": 700.0})
    layout = lay_out(joint(SKALING, shared=("alpha", "beta", "k")), points)
    system, chosen = System(layout, points), objective_named(objective)
    target = np.log(points.loss) if chosen.in_log else points.loss
    vector = np.linspace(0.3, 0.6, len(layout.names))[None]
    flat = np.zeros(1)

    def local(v):
        return system.local(v, chosen, target, points.weights, flat)

    here = local(vector)
    for i in range(vector.shape[1]):
        step = np.zeros_like(vector)
        step[0, i] = 1e-5
        up, down = local(vector + step), local(vector - step)
        assert (up.value - down.value)[0] / 2e-5 == pytest.approx(here.gradient[0, i], rel=1e-6)
        assert (up.gradient - down.gradient)[0] / 2e-5 == pytest.approx(here.hessian[0, i], rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("law", ["chinchilla", "skaling"])
def test_fixed_parameters_are_held_in_the_fit_and_in_every_draw(law):
    points = isoflop_points(noise=0.01)
    made = fit(points, law, objective="log_mse", fixed={"E": 1.69, "alpha": 0.3})
    assert (made.parameters["E"], made.parameters["alpha"]) == pytest.approx((1.69, 0.3), rel=1e-12)
    free = fit(points, law, objective="log_mse")
    assert made.objective_value > free.objective_value
    assert made.bounds_hit == ()
    drawn = bootstrap(made, draws=50, kind="residuals")
    assert np.ptp(drawn.parameters["E"]) == 0.0
    assert np.ptp(drawn.parameters["beta"]) > 0.0
    assert drawn.at_bound == 0
    assert made.sigma_log == pytest.approx(np.sqrt((made.residuals**2).sum() / (35 - len(free.vector) + 2)))


def test_fixing_at_the_optimum_changes_nothing():
    points = isoflop_points(noise=0.01)
    free = fit(points)
    for names in (("E",), ("A",), ("A", "alpha"), ("beta",), ("B", "beta", "E")):
        held = fit(points, fixed={name: free.parameters[name] for name in names})
        assert held.parameters == pytest.approx(free.parameters, rel=1e-5)
        assert held.objective_value == pytest.approx(free.objective_value, rel=1e-8)


def test_tied_exponents_are_equal_and_optimal():
    points = isoflop_points(noise=0.01)
    tied = fit(points, objective="log_mse", tied={"beta": "alpha"})
    assert list(tied.parameters) == ["A", "alpha", "B", "beta", "E"]
    assert tied.parameters["alpha"] == tied.parameters["beta"]
    assert tied.exponents == pytest.approx({"N": 0.5, "D": 0.5})
    common = tied.parameters["alpha"]
    for value in (common * 0.999, common, common * 1.001):
        both = fit(points, objective="log_mse", fixed={"alpha": value, "beta": value})
        assert both.objective_value >= tied.objective_value * (1 - 1e-9)
    assert set(profile_intervals(tied)) == {"A", "alpha", "B", "E"}
    same = fit(points, objective="log_mse", tied={"A": "B"})
    assert same.parameters["A"] == same.parameters["B"]


def test_constraints_of_a_law_over_lines():
    points = two_lines(HOFFMANN | {"A": 700.0})
    made = fit(points, "joint", fixed={"E": HOFFMANN["E"], "A[dense]": HOFFMANN["A"]})
    assert made.parameters["A[low_rank@0.25]"] == pytest.approx(700.0, rel=1e-4)
    assert made.parameters["A[dense]"] == pytest.approx(HOFFMANN["A"], rel=1e-9)


def test_constraints_that_make_no_sense_are_refused_in_words():
    points = isoflop_points(noise=0.01)
    with pytest.raises(FitError, match=r"no such parameter[\s\S]*gamma"):
        fit(points, fixed={"gamma": 0.1})
    with pytest.raises(FitError, match="below the lowest loss"):
        fit(points, fixed={"E": 9.0})
    with pytest.raises(FitError, match="positive number"):
        fit(points, fixed={"alpha": -0.1})
    with pytest.raises(FitError, match="two exponents, or two coefficients"):
        fit(points, tied={"alpha": "A"})
    with pytest.raises(FitError, match=r"kaplan has no such parameter[\s\S]*alpha_D"):
        fit(points, "kaplan", fixed={"alpha_N": 0.1})
    with pytest.raises(FitError, match="nothing to fit"):
        fit(points, fixed=HOFFMANN)
    assert fit(points, "kaplan", fixed={"alpha_D": 0.1}).parameters["alpha_D"] == 0.1


def test_the_published_recipe_of_repeated_tokens_holds_its_base():
    p = HOFFMANN
    points = repeated_points(
        lambda unique: (p["alpha"] * p["A"] / (p["beta"] * p["B"]) * unique ** p["beta"]) ** (1 / p["alpha"])
    )
    bare = Points(points.params, points.tokens, points.loss, unique_tokens=points.unique_tokens)
    study = study_line(bare, law="data_constrained", fixed=HOFFMANN, draws=20)
    assert study.fit.parameters == pytest.approx(HOFFMANN | {"R_N": 5.3, "R_D": 15.4}, rel=1e-5)
    assert study.fit.points.unique_params == pytest.approx(points.unique_params, rel=1e-9)


def test_automatic_delta_is_the_width_of_the_residuals():
    sigma = 0.01
    made = fit(isoflop_points(noise=sigma, budgets=8, sizes=12), delta="auto")
    assert made.automatic_delta
    assert made.delta == pytest.approx(1.345 * sigma, rel=0.35)
    size = np.sort(np.abs(made.residuals))[5:]
    assert automatic_width(made.residuals, 5) == pytest.approx(1.345 * 1.4826 * np.median(size))
    assert fit(isoflop_points(noise=sigma), objective="log_mse", delta="auto").delta is None
    exact = fit(isoflop_points(), delta="auto")
    assert exact.parameters == pytest.approx(HOFFMANN, rel=1e-6)
    with pytest.raises(FitError, match="positive number"):
        fit(isoflop_points(noise=sigma), delta=-1.0)


def test_automatic_delta_is_closer_than_the_published_one():
    squares = {1e-3: 0.0, "auto": 0.0}
    for seed in range(12):
        points = isoflop_points(noise=0.02, seed=seed)
        for delta in squares:
            squares[delta] += (fit(points, delta=delta).parameters["alpha"] - HOFFMANN["alpha"]) ** 2
    assert squares["auto"] < squares[1e-3]


def test_frontier_of_a_law_with_a_power_is_its_minimum():
    for law in ("skaling", "kaplan"):
        made = fit(isoflop_points(noise=0.01), law)
        best = frontier(made).at(1e22)
        searched = frontier(made, flops_per_token=lambda n: 6.0 * n).at(1e22)
        assert (best.params, best.loss) == pytest.approx((searched.params, searched.loss), rel=1e-5)


def test_a_sweep_may_name_every_form(tmp_path):
    from scaling.sweeps.schema import Analysis

    for name in FORMS:
        assert Analysis(law=name, delta="auto").law == name
    with pytest.raises(ValueError, match="unknown law"):
        Analysis(law="chinchila")


def test_chinchilla_points_say_so():
    made = fit(isoflop_points(noise=0.002), "skaling", objective="log_mse")
    assert made.parameters["k"] == pytest.approx(1.0, abs=0.3)
    assert chinchilla_loss(HOFFMANN, 1e9, 2e10) == pytest.approx(float(made.loss(1e9, 2e10)), rel=5e-3)
