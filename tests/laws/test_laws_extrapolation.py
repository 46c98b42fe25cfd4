import numpy as np
import pytest
from laws_cases import HOFFMANN, chinchilla_loss, isoflop_design, isoflop_points, public_points

from scaling.errors import FitError
from scaling.laws.budget_groups import recognised_budgets
from scaling.laws.determination import NotDetermined
from scaling.laws.draws import bootstrap
from scaling.laws.extrapolation import extrapolate
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.optima import are_optima, optima_laws
from scaling.laws.points import Points
from scaling.laws.sensitivity import form_range


@pytest.mark.parametrize(("budgets", "held_out"), [(3, 0), (4, 1), (5, 2), (6, 3), (8, 3)])
def test_origins_roll_while_three_budgets_remain(budgets, held_out):
    made = extrapolate(isoflop_points(noise=0.01, budgets=budgets))
    assert made.calibration.held_out == held_out
    assert made.weights.sum() == pytest.approx(1.0)
    if not held_out:
        assert made.calibration.share_inside is None
        assert made.calibration.inflation == pytest.approx(1.5)
        assert made.weights == pytest.approx([1 / 3] * 3)
        assert "not on yours" in made.calibration.text


def test_the_mixture_is_its_forms_and_its_variance_their_spread():
    made = extrapolate(isoflop_points(noise=0.01, budgets=6))
    there = Points(np.array([3e10]), np.array([6e11]), np.ones(1))
    answers = [form.log_loss(there) for form in made.forms]
    means, within = (np.array([getattr(a, name)[0] for a in answers]) for name in ("mean", "variance"))
    mixture, prediction = made.mixture(there), made.at(3e10, 6e11)
    centre = made.weights @ means
    variance = made.weights @ (within + (means - centre) ** 2)
    assert mixture.mean[0] == pytest.approx(centre)
    assert mixture.of_law[0] == pytest.approx(variance)
    assert np.log(prediction.loss) == pytest.approx(centre)
    low, high = np.log(prediction.intervals["loss"])
    assert (high - low) / 2 == pytest.approx(1.96 * made.calibration.inflation * np.sqrt(variance), rel=1e-4)
    run = np.diff(np.log(prediction.intervals["loss_of_run"]))[0]
    assert run > high - low
    assert sum(form.weight for form in prediction.forms) == pytest.approx(1.0)


def test_the_form_that_made_the_points_gets_the_weight():
    params, tokens, budget = isoflop_design(8, 9, decades=4.0)
    loss = chinchilla_loss(HOFFMANN, params, tokens) * np.exp(0.001 * np.random.default_rng(0).normal(size=72))
    made = extrapolate(Points(params, tokens, loss, budget=budget))
    weights = {form.fit.law: weight for form, weight in zip(made.forms, made.weights, strict=True)}
    assert weights["kaplan"] < 0.1


def test_optimum_intervals_hold_the_truth_of_simulated_laws():
    truth = frontier(fit(isoflop_points())).at(1e23)
    inside = np.zeros(3)
    for seed in range(8):
        best = extrapolate(isoflop_points(noise=0.005, seed=seed, budgets=6)).at_compute(1e23)
        for k, name in enumerate(("N", "D", "loss")):
            low, high = best.intervals[name]
            inside[k] += low < (truth.params, truth.tokens, truth.loss)[k] < high
        assert best.params * best.tokens * 6 == pytest.approx(1e23, rel=0.05)
    assert (inside >= 7).all()


def test_without_hold_outs_the_interval_holds_every_form():
    best = extrapolate(isoflop_points(noise=0.003, budgets=3)).at_compute(1e24)
    for name, values in (("loss", [f.loss for f in best.forms]), ("N", [f.params for f in best.forms])):
        assert best.intervals[name][0] <= min(values)
        assert best.intervals[name][1] >= max(values)


def test_a_budget_effect_widens_what_the_residuals_do_not_show():
    points = isoflop_points(noise=0.002, budgets=7)
    shared = np.repeat(0.02 * np.random.default_rng(3).normal(size=7), 7)
    plain, moved = (extrapolate(points.with_loss(points.loss * np.exp(e))) for e in (0.0 * shared, shared))
    assert moved.calibration.inflation > plain.calibration.inflation
    assert moved.forms[0].sigma < 0.01  # the budget effect itself is left to the hold-outs


def test_held_out_budgets_of_a_public_table_are_inside():
    points = public_points("llama3_isoflop.csv")
    held = points.budget >= 1e21
    made = extrapolate(points.select(~held))
    mixture = made.mixture(points.select(held))
    error = np.log(points.loss[held]) - mixture.mean
    assert np.mean(np.abs(error) <= 1.96 * made.calibration.inflation * np.sqrt(mixture.of_run)) > 0.9
    assert np.abs(error).mean() < 0.01


def test_too_few_budgets_are_refused():
    with pytest.raises(FitError, match="no law can be extrapolated"):
        extrapolate(isoflop_points(budgets=2))


def test_a_form_that_the_points_do_not_determine_is_left_out_by_name():
    made = extrapolate(isoflop_points(noise=0.01, budgets=3, sizes=2))
    assert "skaling" in made.skipped
    assert [form.fit.law for form in made.forms] == ["chinchilla", "kaplan"]


def narrow_points():
    rng = np.random.default_rng(0)
    tokens = np.geomspace(8e9, 1.3e11, 30)
    params = 1e8 * np.exp(rng.uniform(-0.09, 0.09, 30))
    return Points(params, tokens, chinchilla_loss(HOFFMANN, params, tokens) * np.exp(0.004 * rng.normal(size=30)))


@pytest.mark.parametrize("law", ["chinchilla", "kaplan", "skaling"])
def test_an_exponent_of_a_variable_that_hardly_varies_is_not_an_answer(law):
    made = fit(narrow_points(), law)
    assert made.status == "degenerate"
    assert "N spans a factor 1.2" in made.message
    answer = frontier(made).answer(1e21)
    assert isinstance(answer, NotDetermined)
    assert "not identified" in str(answer)
    assert made.range.params == (made.points.params.min(), made.points.params.max())


def test_narrow_points_predict_where_they_lie_and_nowhere_else():
    made = extrapolate(narrow_points())
    assert isinstance(made.at_compute(1e21), NotDetermined)
    assert isinstance(made.at(1e9, 3e10), NotDetermined)
    here = made.at(1e8, 3e10)
    truth = chinchilla_loss(HOFFMANN, 1e8, 3e10)
    assert here.intervals["loss_of_run"][0] < truth < here.intervals["loss_of_run"][1]


def test_one_ratio_of_tokens_to_parameters_separates_no_terms():
    params = np.geomspace(1e8, 1e10, 20)
    loss = chinchilla_loss(HOFFMANN, params, 20 * params) * np.exp(0.001 * np.random.default_rng(0).normal(size=20))
    made = fit(Points(params, 20 * params, loss))
    assert made.status == "degenerate"


def test_a_term_like_a_wall_is_not_a_power_law():
    points = isoflop_points()
    wall = 2.0 + 900 * points.tokens**-0.3 + 0.3 * (points.params / points.params.min()) ** -4.5
    made = fit(points.with_loss(wall))
    assert made.parameters["alpha"] == pytest.approx(4.5, rel=1e-3)
    assert made.status == "degenerate"
    assert "a step" in made.message
    assert isinstance(frontier(made).answer(1e21), NotDetermined)
    assert fit(points.with_loss(wall), fixed={"alpha": 4.5}).status == "ok"


def test_an_optimum_at_the_edge_or_of_failed_draws_is_not_an_answer():
    made = fit(isoflop_points(noise=0.01))
    edge = frontier(made, params_range=(1e6, 1e8)).answer(1e24)
    assert isinstance(edge, NotDetermined)
    assert "edge" in edge.reason
    drawn = bootstrap(made, draws=20)
    object.__setattr__(drawn, "failed", 15)
    assert "15 of 20 draws failed" in frontier(made, draws=drawn).answer(1e21).reason
    stacked = extrapolate(isoflop_points(noise=0.01), params_range=(1e6, 1e8))
    assert "edge" in stacked.at_compute(1e24).reason


def test_budgets_are_recognised_where_flops_cluster():
    points = isoflop_points(noise=0.01)
    jitter = np.exp(np.random.default_rng(0).uniform(-0.03, 0.03, len(points)))
    flops = points.budget * jitter
    found = recognised_budgets(Points(points.params, points.tokens, points.loss, flops=flops))
    assert found.budget == pytest.approx(points.budget, rel=0.03)
    assert len(np.unique(found.budget)) == 5
    assert extrapolate(Points(points.params, points.tokens, points.loss, flops=flops)).grouped_by == "FLOPs"


def test_clouds_and_ladders_have_no_budgets_and_the_reason_is_given():
    rng = np.random.default_rng(0)
    cloud = Points(10 ** rng.uniform(7, 9, 80), 10 ** rng.uniform(9, 11, 80), np.ones(80))
    assert recognised_budgets(cloud).budget is None
    assert "of the points lie in clusters" in recognised_budgets(cloud).reason
    ladder = np.geomspace(1e7, 1e10, 12)
    alone = recognised_budgets(Points(ladder, 20 * ladder, np.ones(12)))
    assert alone.budget is None
    assert "0 clusters" in alone.reason


def optima(noise=0.0):
    compute = np.geomspace(1e18, 1e20, 4)
    params = 0.3 * compute**0.45 * np.exp(noise * np.random.default_rng(0).normal(size=4))
    return Points(params, compute / (6 * params), 40 * compute**-0.06, flops=compute)


def test_power_laws_through_a_table_of_optima():
    made = optima_laws(optima())
    assert are_optima(optima())
    assert made.exponents == pytest.approx({"N": 0.45, "D": 0.55}, rel=1e-9)
    assert made.at(1e21) == pytest.approx({"N": 0.3 * 1e21**0.45, "D": 1e21**0.55 / 1.8, "loss": 40 * 1e21**-0.06})
    noisy = optima_laws(optima(0.1))
    low, high = noisy.exponent_intervals["N"]
    assert low < 0.45 < high
    assert high - low > 0.05


def test_a_grid_is_no_table_of_optima():
    assert not are_optima(isoflop_points())
    assert not are_optima(optima().select([0, 1]))
    with pytest.raises(FitError, match="one row for each compute budget"):
        optima_laws(isoflop_points())


def test_the_form_range_leaves_out_what_is_not_determined():
    made = fit(isoflop_points(noise=0.01))
    assert form_range(made, 1e24, params_range=(1e6, 1e8)).members == {}
    held = form_range(fit(made.points, fixed={"E": 1.7}), 1e22)
    assert "chinchilla with E = 0" not in held.members
    assert "kaplan" in held.members
