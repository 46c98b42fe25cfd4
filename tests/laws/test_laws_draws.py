import numpy as np
import pytest
from laws_cases import HOFFMANN, chinchilla_loss, isoflop_points, public_points
from numpy.testing import assert_allclose

from scaling.errors import FitError
from scaling.laws.draws import bootstrap, draw_cases, draw_residuals, refit
from scaling.laws.fit_text import report_text
from scaling.laws.fitting import fit
from scaling.laws.forms import CHINCHILLA
from scaling.laws.line_study import study_line
from scaling.laws.points import Points
from scaling.laws.profile_likelihood import profile_interval, profile_intervals


def test_chinchilla_case_bootstrap_gives_the_published_intervals():
    draws = bootstrap(fit(public_points("chinchilla_svg.csv").drop_highest(5), delta=1e-3), draws=4000, kind="cases")
    assert (draws.failed, draws.at_bound) == (0, 0)
    published = {
        "A": (285.2, 743.6),
        "B": (1042.4, 5810.3),
        "E": (1.769, 1.871),
        "alpha": (0.317, 0.373),
        "beta": (0.331, 0.415),
    }
    for name, (low, high) in published.items():
        width = high - low
        assert_allclose(draws.interval(name), (low, high), atol=0.06 * width)


def test_every_draw_is_a_full_fit():
    made = fit(isoflop_points(noise=0.01))
    rng = np.random.default_rng(0)
    weight = rng.multinomial(len(made.points), np.full(len(made.points), 1 / len(made.points)), size=12).astype(float)
    draws = refit(made, made.points.loss, weight, kind="cases")
    for k, row in enumerate(weight):
        points = made.points
        alone = fit(Points(points.params, points.tokens, points.loss, weight=row))
        assert draws.parameters["E"][k] == pytest.approx(alone.parameters["E"], rel=1e-5)
        assert draws.exponents["N"][k] == pytest.approx(alone.exponents["N"], rel=1e-5)


def test_residual_draws_have_the_noise_they_claim():
    made = fit(isoflop_points(noise=0.01), objective="log_mse")
    group = np.arange(len(made.points))
    smooth = np.log(made.points.loss) - made.residuals
    for seed_noise, want in ((None, made.sigma_log), (0.05, 0.05)):
        loss, _ = draw_residuals(made, np.random.default_rng(0), 4000, group, seed_noise)
        # 30 degrees of freedom: the noise level of a draw has the mean square of Student's t.
        assert (np.log(loss) - smooth).std() == pytest.approx(want * np.sqrt(30 / 28), rel=0.02)


def test_intervals_of_residual_draws_reach_as_far_on_both_sides():
    made = fit(isoflop_points(noise=0.03, budgets=4, sizes=5))
    draws = bootstrap(made, draws=400, kind="residuals")
    for name in ("alpha", "E", "A"):
        low, high = draws.interval(name)
        value, (first, last) = made.parameters[name], np.quantile(draws.parameters[name], [0.025, 0.975])
        assert low <= first
        assert last <= high
        assert (low, high) != pytest.approx((first, last), rel=1e-3)
        middle = np.sqrt(low * high) if name == "A" else (low + high) / 2
        assert middle == pytest.approx(value)
    assert bootstrap(made, draws=50, kind="cases").interval("A")[0] > 0


def test_residual_draws_and_profile_intervals_agree():
    made = fit(isoflop_points(noise=0.01, sizes=9), objective="log_mse")
    draws = bootstrap(made, draws=2000, kind="residuals")
    for name in ("alpha", "beta", "E", "A"):
        low, high = draws.interval(name)
        assert_allclose(profile_interval(made, name), (low, high), atol=0.2 * (high - low))


def test_a_fit_under_log_mse_reports_its_profile_intervals():
    made = fit(isoflop_points(noise=0.01), objective="log_mse")
    found = profile_intervals(made)
    assert found == {name: profile_interval(made, name) for name in made.parameters}
    text = report_text(made)
    assert "95 % by profile" in text
    assert f"{found['alpha'][0]:.5g} to {found['alpha'][1]:.5g}" in text
    assert study_line(made.points, objective="log_mse", draws=0).to_json()["profile_intervals"]["E"] == list(found["E"])
    assert profile_intervals(fit(made.points)) == {}
    assert profile_intervals(fit(made.points, "kaplan", objective="log_mse")) == {}


def test_profile_interval_is_where_the_deviance_crosses():
    optimize, stats = pytest.importorskip("scipy.optimize"), pytest.importorskip("scipy.stats")
    made = fit(isoflop_points(noise=0.01), objective="log_mse")
    low, high = profile_interval(made, "E")
    assert low < made.parameters["E"] < high
    inner = profile_interval(made, "E", level=0.68)
    assert low < inner[0] < inner[1] < high
    # At the end the best remaining fit is worse by exactly the bound on the sum of squares.
    points, freedom = made.points, len(made.points) - 5
    held = fit(points.with_loss(points.loss - high), CHINCHILLA.without_floor(), objective="mse").parameters
    start = [np.log(held["A"]), held["alpha"], np.log(held["B"]), held["beta"]]
    n, d = np.log(points.params), np.log(points.tokens)

    def residual(v):
        return np.log(high + np.exp(v[0] - v[1] * n) + np.exp(v[2] - v[3] * d)) - np.log(points.loss)

    squares = 2 * optimize.least_squares(residual, start, x_scale=[1, 0.1, 1, 0.1], xtol=1e-13, ftol=1e-13).cost
    bound = stats.t.ppf(0.975, freedom) ** 2 / freedom
    assert squares == pytest.approx(made.objective_value * (1 + bound), rel=2e-3)


def test_profile_refuses_other_objectives_and_names():
    with pytest.raises(FitError, match="log_mse"):
        profile_interval(fit(isoflop_points(noise=0.01)), "E")
    with pytest.raises(FitError, match="no such parameter"):
        profile_interval(fit(isoflop_points(noise=0.01), objective="log_mse"), "F")


def test_trunks_are_drawn_together_and_widen_the_interval():
    rng = np.random.default_rng(3)
    params, tokens = (side.ravel() for side in np.meshgrid(np.geomspace(1e8, 1e10, 15), np.geomspace(1e9, 1e11, 4)))
    trunk = np.arange(60) % 15
    noisy = chinchilla_loss(HOFFMANN, params, tokens) * np.exp(0.01 * rng.normal(size=15)[trunk])
    points = Points(params, tokens, noisy, trunk=trunk)
    made = fit(points, objective="log_mse")
    for kind in ("cases", "residuals"):
        together = bootstrap(made, draws=300, kind=kind)
        apart = bootstrap(made, draws=300, kind=kind, clusters=np.arange(60))
        assert together.clustered
        assert np.ptp(together.interval("alpha")) > 1.3 * np.ptp(apart.interval("alpha"))


def test_draws_at_a_bound_are_counted_and_make_the_interval_unreliable():
    points = isoflop_points(HOFFMANN | {"E": 0.0}, noise=0.03)
    draws = bootstrap(fit(points), draws=200, kind="residuals")
    assert draws.at_bound > 10
    assert draws.unreliable


def test_equal_seeds_give_equal_draws():
    made = fit(isoflop_points(noise=0.01))
    a, b, c = (bootstrap(made, draws=20, seed=seed, kind="residuals") for seed in (1, 1, 2))
    assert np.array_equal(a.vectors, b.vectors)
    assert not np.array_equal(a.vectors, c.vectors)


def test_correlations_are_those_of_the_ranks():
    draws = bootstrap(fit(isoflop_points(noise=0.01)), draws=200)
    stats = pytest.importorskip("scipy.stats")
    want = stats.spearmanr(draws.parameters["A"], draws.parameters["alpha"]).statistic
    assert draws.correlations["A", "alpha"] == pytest.approx(want)


def test_no_draws_is_refused():
    with pytest.raises(FitError, match="at least 1"):
        bootstrap(fit(isoflop_points(noise=0.01)), draws=0)


def test_clusters_of_a_large_table_are_drawn_with_replacement(monkeypatch):
    """Counted one by one, the weights of a draw add up to the points and have the variance of a multinomial."""
    monkeypatch.setattr("scaling.laws.draws._MANY_CLUSTERS", 10)
    made = fit(isoflop_points(noise=0.01))
    _, weights = draw_cases(made, np.random.default_rng(0), 400, np.arange(len(made.points)))
    assert (weights.sum(axis=1) == len(made.points)).all()
    assert weights.var(axis=0).mean() == pytest.approx(1.0, abs=0.1)
