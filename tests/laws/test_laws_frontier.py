import numpy as np
import pytest
from laws_cases import HOFFMANN, isoflop_points

from scaling.errors import FitError
from scaling.laws.draws import bootstrap
from scaling.laws.fitting import fit
from scaling.laws.frontier import balanced_params, frontier
from scaling.laws.points import Points


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
