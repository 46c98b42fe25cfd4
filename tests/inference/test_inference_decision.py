"""The serving decision against closed forms, brute force and simulated draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from scaling.inference.decision import BUDGET_MULTIPLES, CHOICES, Candidate, PowerLaws, decide, least_loss

CHINCHILLA = (1.69, 406.4, 0.34, 410.7, 0.28)  # Hoffmann et al. 2203.15556, approach 3
LOSS, SERVED = 2.2, 1e12


def laws(*rows) -> PowerLaws:
    columns = np.array(rows, float).T[..., None]
    floor, a, alpha, b, beta = columns
    return PowerLaws(floor, np.log(a), alpha, np.log(b), beta)


def candidate(line="dense", form="dense", rows=(CHINCHILLA,), serve=2.0, ratio=None) -> Candidate:
    six_nd = lambda n: 6.0 * np.asarray(n)  # noqa: E731
    return Candidate(line, form, ratio, laws(*rows), six_nd, six_nd, lambda n: serve * np.asarray(n), (1e6, 1e14))


def drawn(centre, count, spread, seed) -> list[tuple[float, ...]]:
    """The law and draws of it in log A and log B."""
    random = np.random.default_rng(seed)
    rows = [centre]
    for a, b in random.normal(0, spread, (count, 2)):
        rows.append((centre[0], centre[1] * math.exp(a), centre[2], centre[3] * math.exp(b), centre[4]))
    return rows


def test_the_cheapest_model_is_the_closed_form_to_1e_8():
    """Hoffmann et al. eq. 4: at the optimum α·A/N^α = β·B/D^β."""
    floor, a, alpha, b, beta = CHINCHILLA
    row = decide([candidate()], "dense", target_loss=LOSS, served_tokens=SERVED).row("dense", "dense", "cheapest")
    share = (LOSS - floor) / (alpha + beta)
    params, tokens = (a / (beta * share)) ** (1 / alpha), (b / (alpha * share)) ** (1 / beta)
    assert row.params == pytest.approx(params, rel=1e-8)
    assert row.tokens == pytest.approx(tokens, rel=1e-7)
    assert row.train_cost == pytest.approx(6 * params * tokens, rel=1e-8)
    assert row.loss == pytest.approx(LOSS, abs=1e-10)


@given(served=st.floats(8, 16), loss=st.floats(1.9, 3.0))
def test_the_lifetime_model_is_a_brute_force_minimum(served, loss):
    one, tokens = candidate(), 10**served
    row = decide([one], "dense", target_loss=loss, served_tokens=tokens).row("dense", "dense", "lifetime")

    def total(log_n: float) -> float:
        return float(one.total(loss, tokens, np.array([[math.exp(log_n)]]))[0, 0])

    found = minimize_scalar(
        total, bracket=(math.log(row.params) - 0.1, math.log(row.params) + 0.1), options={"xtol": 1e-12}
    )
    assert row.total_cost <= found.fun * (1 + 1e-8)
    assert row.serve_cost == pytest.approx(2 * row.params * tokens)
    least = min(total(x) for x in np.linspace(math.log(1e6), math.log(1e14), 2000))
    assert row.total_cost <= least * (1 + 1e-10)


def test_a_smaller_budget_multiple_spends_it_and_more_served_tokens_shrink_the_model():
    one = candidate()
    found = decide([one], "dense", target_loss=LOSS, served_tokens=SERVED)
    cheapest = found.row("dense", "dense", "cheapest")
    sizes = [cheapest.params]
    for choice, multiple in BUDGET_MULTIPLES.items():
        row = found.row("dense", "dense", choice)
        assert row.train_cost == pytest.approx(multiple * cheapest.train_cost, rel=1e-9)
        sizes.append(row.params)
    assert sizes == sorted(sizes, reverse=True)
    lives = [
        decide([one], "dense", target_loss=LOSS, served_tokens=t).row("dense", "dense", "lifetime").params
        for t in (1e9, 1e11, 1e13)
    ]
    assert cheapest.params > lives[0] > lives[1] > lives[2]


def test_sardana_smaller_and_longer():
    """Sardana et al. 2401.00448, figure 1: who would train a Chinchilla-optimal 13B and serves 2T tokens saves 1.7e22
    FLOPs (17 %) with a 7B of the same loss. Their coefficients are Hoffmann's with two more digits.
    """
    coefficients = (1.69, 406.4, 0.336, 410.7, 0.283)
    floor, a, alpha, b, beta = coefficients
    tokens = (beta * b / (alpha * a)) ** (1 / beta) * 13e9 ** (alpha / beta)
    loss = floor + a / 13e9**alpha + b / tokens**beta
    found = decide([candidate(rows=[coefficients])], "dense", target_loss=loss, served_tokens=2e12)
    best, life = (found.row("dense", "dense", choice) for choice in ("cheapest", "lifetime"))
    assert best.params == pytest.approx(13e9, rel=1e-6)
    assert life.params == pytest.approx(7e9, rel=0.02)
    assert best.total_cost - life.total_cost == pytest.approx(1.7e22, rel=0.01)
    assert 1 - life.total_cost / best.total_cost == pytest.approx(0.17, abs=0.005)


def test_a_line_against_itself_is_even_and_paired_draws_cancel():
    rows = drawn(CHINCHILLA, 200, 0.05, 0)
    twins = [candidate(rows=rows), candidate("twin", "factorized", rows, ratio=0.25)]
    found = decide(twins, "dense", target_loss=LOSS, served_tokens=SERVED)
    for choice in CHOICES:
        row = found.row("twin", "factorized", choice)
        assert row.ratio == pytest.approx(1.0)
        assert row.ratio_interval == pytest.approx((1.0, 1.0), abs=1e-6)
        assert row.same
        assert row.word == "no difference"
    assert found.break_even == ()


def test_intervals_are_mirrored_in_log():
    """A law 10 % dearer in B, with draws that lean one way: the interval leans the other way about the estimate."""
    worse = (1.69, 406.4, 0.34, 450.0, 0.28)
    mine = [worse, *((1.69, 406.4, 0.34, b, 0.28) for b in np.linspace(450, 600, 400))]
    found = decide(
        [candidate(rows=[CHINCHILLA] * 401), candidate("low", "factorized", mine, ratio=0.25)],
        "dense",
        target_loss=LOSS,
        served_tokens=SERVED,
    )
    row = found.row("low", "factorized", "cheapest")
    low, high = row.ratio_interval
    assert high == pytest.approx(row.ratio, rel=0.05)
    assert low < 0.6 * row.ratio


def test_a_break_even_is_where_the_totals_meet():
    """The second line trains dearer and serves cheaper."""
    rows = drawn(CHINCHILLA, 100, 0.02, 1)
    slow = [(e, a, alpha, b * 1.1, beta) for e, a, alpha, b, beta in rows]
    lines = [candidate(rows=rows), candidate("slow", "factorized", slow, serve=1.2, ratio=0.5)]
    (point,) = decide(lines, "dense", target_loss=LOSS, served_tokens=SERVED).break_even
    assert point.cheaper_below == "dense"
    low, high = point.interval
    assert low <= point.served_tokens <= high
    at = decide(lines, "dense", target_loss=LOSS, served_tokens=point.served_tokens)
    assert at.row("slow", "factorized", "lifetime").ratio == pytest.approx(1.0, abs=2e-3)


def test_too_few_draws_that_reach_give_no_ratio():
    rows = [CHINCHILLA, *([CHINCHILLA] * 80), *([(2.5, *CHINCHILLA[1:])] * 20)]
    found = decide(
        [candidate(rows=rows), candidate("other", "factorized", rows, ratio=0.5)],
        "dense",
        target_loss=LOSS,
        served_tokens=SERVED,
    )
    row = found.row("other", "factorized", "lifetime")
    assert (row.ratio, row.ratio_interval, row.same, row.word) == (None, None, None, "not determined")
    assert row.total_cost is not None


def test_a_line_that_never_reaches_has_no_numbers():
    hopeless = candidate("other", "factorized", [(2.5, *CHINCHILLA[1:])], ratio=0.5)
    found = decide([candidate(), hopeless], "dense", target_loss=LOSS, served_tokens=SERVED)
    row = found.row("other", "factorized", "lifetime")
    assert (row.params, row.total_cost, row.ratio) == (None, None, None)
    assert [row.line for row in found.best] == ["dense"]


def test_over_training_keeps_the_compute_and_raises_the_loss():
    found = decide([candidate()], "dense", target_loss=LOSS, served_tokens=SERVED)
    rows = found.over_training
    assert [row.multiple for row in rows] == [1, 2, 5, 20, 100]
    for row in rows:
        assert 6 * row.params * row.tokens == pytest.approx(float(found.compute[0, 0]), rel=1e-6)
        assert row.serve_ratio == pytest.approx(1 / row.multiple, rel=1e-6)
    losses = [row.loss for row in rows]
    assert losses == sorted(losses)
    assert rows[0].loss_above == pytest.approx(0, abs=1e-9)


def test_ranks_have_chances_that_add_to_one():
    rows = drawn(CHINCHILLA, 300, 0.03, 2)
    half = [(e, a * 1.02, alpha, b, beta) for e, a, alpha, b, beta in drawn(CHINCHILLA, 300, 0.03, 3)]
    lines = [
        candidate(rows=rows),
        candidate("low@0.5", "factorized", half, serve=1.9, ratio=0.5),
        candidate("low@0.25", "factorized", half, serve=1.0, ratio=0.25),
    ]
    ranks = decide(lines, "dense", target_loss=LOSS, served_tokens=1e15).ranks
    assert [one.rank_ratio for one in ranks] == [1.0, 0.5, 0.25]
    assert sum(one.lowest_loss_share for one in ranks) == pytest.approx(1)
    assert sum(one.cheapest_share for one in ranks) == pytest.approx(1)
    assert ranks[2].cheapest_share > 0.9  # half the price of a token at nearly the same law


def test_least_loss_is_the_frontier_in_closed_form():
    found = decide([candidate()], "dense", target_loss=LOSS, served_tokens=SERVED)
    assert least_loss(candidate(), float(found.compute[0, 0])) == pytest.approx(LOSS, abs=1e-10)
