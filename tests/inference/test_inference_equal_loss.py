from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar

from scaling.inference.equal_loss import (
    LawDraws,
    best_loss,
    break_even,
    cheapest,
    cheapest_draws,
    lifetime_cost,
    minimise,
    smallest,
    smallest_draws,
    tokens_to_reach,
)

E, A, ALPHA, B, BETA = 1.69, 406.4, 0.34, 410.7, 0.28


@pytest.fixture
def six_nd(make_line):
    """A line whose training costs 6·N per token, so that Chinchilla's closed forms hold."""
    return replace(make_line("dense"), flops_per_token=lambda params: 6.0 * params)


def tokens_in_closed_form(params, target):
    return (B / (target - E - A / params**ALPHA)) ** (1 / BETA)


def test_tokens_to_reach_inverts_the_law(six_nd):
    params = np.geomspace(1e7, 1e11, 20)
    target = 2.3
    found = tokens_to_reach(six_nd.loss, target, params)
    possible = E + A / params**ALPHA < target
    assert 0 < possible.sum() < 20
    assert found[possible] == pytest.approx(tokens_in_closed_form(params[possible], target), rel=1e-8)
    assert np.isinf(found[~possible]).all()


@pytest.mark.parametrize("target", [3.0, 2.4, 2.0])
def test_the_cheapest_model_is_on_the_frontier_in_closed_form(six_nd, target):
    """Hoffmann et al. eq. 4: at the optimum α·A/N^α = β·B/D^β, which with the loss gives N and D."""
    best = cheapest(six_nd, target)
    share = (target - E) / (ALPHA + BETA)
    params, tokens = (A / (BETA * share)) ** (1 / ALPHA), (B / (ALPHA * share)) ** (1 / BETA)
    assert best.params == pytest.approx(params, rel=1e-3)
    assert best.tokens == pytest.approx(tokens, rel=2e-3)
    assert best.flops == pytest.approx(6 * params * tokens, rel=1e-6)
    assert best_loss(six_nd, best.flops) == pytest.approx(target, abs=1e-6)


def test_the_smallest_model_spends_the_budget_and_just_reaches(six_nd):
    target = 2.4
    least = cheapest(six_nd, target).flops
    sizes = []
    for multiple in (1.0 + 1e-6, 1.5, 2.0, 4.0, 1e3):
        budget = multiple * least
        found = smallest(six_nd, target, budget)
        wanted = brentq(
            lambda log_n, c=budget: six_nd.loss(np.exp(log_n), c / (6 * np.exp(log_n))) - target,
            np.log(1.0001 * (A / (target - E)) ** (1 / ALPHA)),
            np.log(cheapest(six_nd, target).params),
        )
        assert found.params == pytest.approx(np.exp(wanted), rel=5e-3 if multiple < 1.1 else 1e-6)
        assert found.flops == pytest.approx(6 * found.params * found.tokens)
        assert six_nd.loss(found.params, found.tokens) == pytest.approx(target, abs=1e-6)
        sizes.append(found.params)
    assert sizes == sorted(sizes, reverse=True)
    assert smallest(six_nd, target, 0.999 * least) is None


def test_a_loss_below_the_law_is_never_reached(six_nd):
    assert cheapest(six_nd, E) is None
    assert smallest(six_nd, E, 1e30) is None
    kaplan = replace(six_nd, loss=lambda n, d: (1e13 / n) ** 0.08 + 0 * d)
    assert cheapest(kaplan, 1e-3) is None


@settings(max_examples=25)
@given(
    target=st.floats(1.9, 3.5), coefficients=st.tuples(
        st.floats(1.0, 1.8), st.floats(50, 2000), st.floats(0.2, 0.6), st.floats(50, 2000), st.floats(0.2, 0.6)
    ),
)  # fmt: skip
def test_nothing_on_a_finer_grid_is_cheaper(make_line, target, coefficients):
    line = make_line("dense", coefficients, 0.25)
    best = cheapest(line, target)
    params = line.sizes(1200)
    costs = line.flops_per_token(params) * tokens_to_reach(line.loss, target, params)
    if best is None:
        assert not np.isfinite(costs).any()
    else:
        assert best.flops <= costs.min() * (1 + 1e-6)
        assert line.loss(best.params, best.tokens) == pytest.approx(target, abs=1e-6)


def test_lifetime_is_sardana_with_6n_and_2n(six_nd):
    """Sardana et al. 2401.00448, eq. 2: min 6·N·D + 2·N·T at equal loss, by a scalar optimiser."""
    target = 2.2
    sizes = np.geomspace(1e8, 1e12, 4000)
    train, serve = 6 * sizes * tokens_to_reach(six_nd.loss, target, sizes), 2 * sizes
    for served in (1e9, 1e11, 1e13):
        total = lambda log_n, t=served: np.log(  # noqa: E731
            np.exp(log_n) * (6 * tokens_in_closed_form(np.exp(log_n), target) + 2 * t)
        )
        low = np.log(1.001 * (A / (target - E)) ** (1 / ALPHA))
        wanted = minimize_scalar(total, bounds=(low, np.log(1e12)), method="bounded", options={"xatol": 1e-10})
        assert lifetime_cost((train, serve), served) == pytest.approx(np.exp(wanted.fun), rel=1e-5)
        life = lambda n, t=served: 6 * n * tokens_to_reach(six_nd.loss, target, n) + 2 * n * t  # noqa: E731
        assert minimise(life, six_nd.sizes()[None])[0, 0] == pytest.approx(np.exp(wanted.x), rel=1e-3)


def test_break_even_is_where_two_straight_costs_cross():
    """One size each: 100 + 2·T against 1000 + T cross at 900, against 50 + T never."""
    one = (np.array([100.0]), np.array([2.0]))
    assert break_even(one, (np.array([1000.0]), np.array([1.0]))) == pytest.approx([900.0])
    assert break_even((np.array([1000.0]), np.array([1.0])), one) == pytest.approx([900.0])
    assert break_even(one, (np.array([50.0]), np.array([1.0]))) == []
    assert break_even(one, one) == []


def test_break_even_can_be_crossed_twice():
    """A line with two sizes undercuts the other one in the middle only."""
    two = (np.array([0.0, 1e6]), np.array([10.0, 1.0]))
    other = (np.array([1e3, 5e5]), np.array([9.0, 1.5]))
    crossings = break_even(two, other)
    for served in crossings:
        assert lifetime_cost(two, served) == pytest.approx(lifetime_cost(other, served))
    assert len(crossings) == 2


def test_unfinished_sizes_do_not_count():
    life = (np.array([np.inf, 5.0]), np.array([0.0, 1.0]))
    assert lifetime_cost(life, [0.0, 10.0]) == pytest.approx([5.0, 15.0])
    assert np.isnan(minimise(lambda n: np.full_like(n, np.inf), np.geomspace(1, 10, 5)[None])).all()


def test_draws_together_are_draws_one_by_one(make_line, law):
    """A hundred laws at once, on a coarser grid, against each law as a line of its own; some never reach the loss."""
    draw = np.random.default_rng(3)
    laws = [(1.69 + 0.25 * draw.normal(), 400 * np.exp(0.1 * draw.normal()), 0.34, 410.7, 0.28) for _ in range(100)]
    columns = [np.array(c)[:, None] for c in zip(*laws, strict=True)]
    line = make_line("dense", draws=LawDraws(100, law(*columns)))
    target, budget = 2.0, 1e22
    one_by_one = [make_line("one", coefficients) for coefficients in laws]
    for together, alone in (
        (cheapest_draws(line, target), [cheapest(one, target) for one in one_by_one]),
        (smallest_draws(line, target, budget), [smallest(one, target, budget) for one in one_by_one]),
    ):
        assert together.unreached == sum(found is None for found in alone)
        assert 5 < together.unreached < 95
        reached = [found for found in alone if found is not None]
        assert together.params == pytest.approx([found.params for found in reached], rel=3e-3)
        assert together.flops == pytest.approx([found.flops for found in reached], rel=1e-5)
    assert cheapest_draws(make_line("dense"), target) is None
