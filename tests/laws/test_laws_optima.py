import numpy as np
import pytest
from laws_cases import HOFFMANN, chinchilla_loss, isoflop_points, public_points

from scaling.errors import FitError
from scaling.laws.draws import bootstrap
from scaling.laws.envelope import envelope
from scaling.laws.fitting import fit
from scaling.laws.frontier import balanced_params, frontier
from scaling.laws.isoflop import isoflop
from scaling.laws.points import Points


@pytest.mark.parametrize(("curve", "third"), [("parabola", 0.0), ("cubic", 0.0005)])
def test_exact_valleys_give_their_exponent_back(curve, third):
    made = isoflop(centred_valleys(third), curve=curve, draws=50)
    assert made.exponents == pytest.approx({"N": 0.45, "D": 0.55}, abs=1e-6)
    assert made.coefficients["N"] == pytest.approx(0.3, rel=1e-4)
    assert all(minimum.bracketed for minimum in made.minima)
    assert made.at(1e20)["N"] == pytest.approx(0.3 * 1e20**0.45, rel=1e-4)


def centred_valleys(third=0.0):
    budget = np.repeat(np.geomspace(1e18, 1e21, 5), 7)
    x = np.tile(np.linspace(-1.5, 2.0, 7), 5)
    params = 0.3 * budget**0.45 * np.exp(x)
    loss = 2 + (budget / 1e18) ** -0.05 + 0.02 * x**2 + third * x**3
    return Points(params, budget / (6 * params), loss, budget=budget)


def test_akima_finds_the_bottoms_too():
    made = isoflop(centred_valleys(), curve="akima", draws=20)
    assert made.exponents["N"] == pytest.approx(0.45, abs=0.01)


def test_approach_two_is_biased_even_without_noise_and_only_a_little():
    law = HOFFMANN | {"alpha": 0.5, "beta": 0.25, "B": 200.0, "A": 3e4}
    points = isoflop_points(law, spread=8.0)
    made = isoflop(points, draws=0)
    truth = 0.25 / 0.75
    assert made.exponents["N"] != pytest.approx(truth, abs=1e-3)


def test_llama_three_minima():
    made = isoflop(public_points("llama3_isoflop.csv"))
    assert made.exponents["D"] == pytest.approx(0.537, abs=1e-3)
    assert made.coefficients["D"] == pytest.approx(0.299, abs=2e-3)
    assert made.exponents["N"] == pytest.approx(0.463, abs=1e-3)
    inliers = isoflop(public_points("llama3_isoflop.csv", keep="inliers"))
    assert inliers.exponents["N"] == pytest.approx(0.495, abs=0.01)


def test_chinchilla_isoflop_minima():
    made = isoflop(public_points("chinchilla_isoflop.csv"))
    assert made.exponents["N"] == pytest.approx(0.513, abs=0.005)
    low, high = made.exponent_intervals["N"]
    assert low < 0.513 < high


def test_unbracketed_minima_are_rejected_with_the_reason():
    points = centred_valleys()
    budgets = np.unique(points.budget)
    x = np.log(points.params / (0.3 * points.budget**0.45))
    kept = points.select((points.budget != budgets[0]) | (x > 0.1))
    first = isoflop(kept, draws=10).minima[0]
    assert not first.bracketed
    assert "smallest size" in first.reason
    last = isoflop(points.select((points.budget != budgets[-1]) | (x < -0.1)), draws=10).minima[-1]
    assert not last.bracketed
    assert "largest size" in last.reason
    two = points.select((points.budget != budgets[1]) | (np.abs(x) < 0.3))
    assert "takes 3" in isoflop(two, draws=10).minima[1].reason
    concave = points.with_loss(5 - points.loss)
    made = isoflop(concave, draws=10)
    assert made.exponents == {}
    assert "at least 3" in made.message


def test_minimum_intervals_cover_the_bottom():
    inside = 0
    for seed in range(20):
        points = centred_valleys()
        noisy = points.with_loss(points.loss * np.exp(0.003 * np.random.default_rng(seed).normal(size=len(points))))
        made = isoflop(noisy, draws=300, seed=seed)
        low, high = made.exponent_intervals["N"]
        inside += low < 0.45 < high
    assert inside >= 16


def test_approach_two_needs_budgets_and_a_known_curve():
    points = centred_valleys()
    with pytest.raises(FitError, match="no column budget"):
        isoflop(Points(points.params, 20 * points.params, points.loss))
    with pytest.raises(FitError, match=r"unknown curve[\s\S]*akima"):
        isoflop(points, curve="spline")


def horizons(count=8):
    sizes = np.geomspace(1e8, 1e10, 9)
    params = np.repeat(sizes, count)
    tokens = (sizes[:, None] * np.geomspace(2, 400, count)).ravel()
    return params, tokens


def test_envelope_finds_the_exponent_of_a_symmetric_law():
    law = {"E": 1.7, "A": 400.0, "B": 1500.0, "alpha": 0.35, "beta": 0.35}
    params, tokens = horizons(16)
    made = envelope(Points(params, tokens, chinchilla_loss(law, params, tokens)))
    assert made.exponents["N"] == pytest.approx(0.5, abs=0.02)
    assert made.exponents["D"] == pytest.approx(0.5, abs=0.03)
    low, high = made.exponent_intervals["N"]
    assert low < 0.5 < high
    best = frontier(fit(Points(params, tokens, chinchilla_loss(law, params, tokens)))).at(float(made.compute[700]))
    assert made.loss[700] == pytest.approx(best.loss, rel=0.01)


def test_envelope_is_not_reported_without_horizons():
    with pytest.raises(FitError, match="several horizons"):
        envelope(centred_valleys())
    params, tokens = horizons()
    loss = 3.0 - 0.01 * np.log(params)
    with pytest.raises(FitError, match="no interior"):
        envelope(Points(params, tokens, loss))


def test_frontier_closed_form_and_search_agree():
    made = fit(isoflop_points(noise=0.01))
    draws = bootstrap(made, draws=40)
    closed = frontier(made, draws=draws).at(1e22)
    searched = frontier(made, draws=draws, flops_per_token=lambda n: 6.0 * n).at(1e22)
    for name in ("params", "tokens", "loss", "slope"):
        assert getattr(searched, name) == pytest.approx(getattr(closed, name), rel=1e-6)
    for name in ("N", "D", "loss"):
        assert searched.intervals[name] == pytest.approx(closed.intervals[name], rel=1e-3)
    assert closed.slope == pytest.approx(made.exponents["N"], rel=1e-9)


def test_frontier_is_the_minimum_under_any_counting():
    made = fit(isoflop_points())

    def exact(n):
        return 6.0 * n + 3e4 * n**0.5

    best = frontier(made, flops_per_token=exact).at(1e20)
    assert best.tokens * exact(best.params) == pytest.approx(1e20, rel=1e-12)
    for factor in (0.9, 1.1):
        n = best.params * factor
        assert made.loss(n, 1e20 / exact(n)) > best.loss
    up, down = (frontier(made, flops_per_token=exact).at(1e20 * k).params for k in (1.05, 1 / 1.05))
    assert best.slope == pytest.approx(np.log(up / down) / (2 * np.log(1.05)), rel=1e-3)


def test_balanced_params_are_the_optimum_for_their_tokens():
    made = fit(isoflop_points())
    best = frontier(made).at(1e21)
    assert balanced_params(made.parameters, np.array([best.tokens]))[0] == pytest.approx(best.params, rel=1e-9)


def test_frontier_says_when_the_best_size_is_the_last_one_searched():
    made = fit(isoflop_points())
    best = frontier(made, flops_per_token=lambda n: 6.0 * n, params_range=(1e6, 1e8)).at(1e24)
    assert best.at_edge


def test_frontier_of_a_line_of_a_joint_law():
    from test_laws_forms import two_lines

    made = fit(two_lines(HOFFMANN | {"A": 700.0}), "joint")

    def low_rank(params, tokens):
        return Points(params, tokens, np.ones(len(params)), line=np.full(len(params), "low_rank@0.25"))

    best = frontier(made, place=low_rank).at(1e21)
    alone = frontier(fit(isoflop_points(HOFFMANN | {"A": 700.0}))).at(1e21)
    assert best.params == pytest.approx(alone.params, rel=1e-4)
    assert best.loss == pytest.approx(alone.loss, rel=1e-6)


def test_power_law_has_no_frontier():
    with pytest.raises(FitError, match="no trade-off"):
        frontier(fit(isoflop_points(noise=0.01), "power"))
