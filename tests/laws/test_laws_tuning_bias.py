import numpy as np
import pytest
from laws_cases import HOFFMANN, chinchilla_loss, codes, isoflop_design, isoflop_points

from scaling.errors import FitError
from scaling.laws.draws import bootstrap
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.points import Points
from scaling.laws.tuning_bias import (
    Trials,
    bootstrap_tuned,
    choose,
    expected_minimum,
    selection_checks,
    tuned_deviations,
)


def test_expected_minimum_of_normal_draws():
    rng = np.random.default_rng(0)
    for k in (2, 3, 5):
        assert expected_minimum(k) == pytest.approx(-rng.normal(size=(400_000, k)).min(axis=1).mean(), abs=5e-3)
    assert expected_minimum(1) == 0.0


def trials(settings=5, noise=0.0, seed=0, centre=0.0, depth=0.0, seeds=1):
    """Every cell of an isoFLOP grid tuned over `settings` rates, with a parabola of `depth` around `centre`."""
    params, tokens, budget = isoflop_design(4, 5)
    base = chinchilla_loss(HOFFMANN, params, tokens)
    x = np.linspace(-1, 1, settings)
    rng = np.random.default_rng(seed)
    shape = (len(base), settings, seeds)
    loss = base[:, None, None] + depth * ((x - centre) ** 2)[None, :, None] + noise * rng.normal(size=shape)

    def spread(column):
        return np.broadcast_to(np.asarray(column).reshape(-1, 1, 1), shape).ravel()

    rates = np.broadcast_to((0.02 * np.exp(x))[None, :, None], shape).ravel()
    points = Points(
        spread(params),
        spread(tokens),
        loss.ravel(),
        budget=spread(budget),
        cell=spread(np.arange(len(base))),
        seed=np.broadcast_to(np.arange(seeds), shape).ravel(),
    )
    return Trials(points, np.array([f"{r:.4g}" for r in rates]), rates), base


def test_a_tuned_cell_is_the_bottom_of_its_parabola():
    runs, base = trials(depth=0.3, centre=0.2)
    points, choices = choose(runs)
    assert points.loss == pytest.approx(base, rel=1e-9)
    assert all(choice.parabola and not choice.at_edge for choice in choices)


def test_far_settings_do_not_tilt_the_parabola():
    """A loss flat below the best rate and steep above it, as in results/ablation; its least value is 2."""
    rates = 0.01 * 2.0 ** np.arange(-2, 3)
    x = np.log(rates / 0.01)
    loss = 2.0 + 0.05 * x**2 + np.where(x > 0, 0.3 * x**3, 0.0)
    points = Points(np.full(5, 1e6), np.full(5, 1e8), loss, cell=np.full(5, "one"))
    kept, (choice,) = choose(Trials(points, rates.astype(str), rates))
    assert choice.parabola
    assert kept.loss[0] == pytest.approx(2.0, abs=0.01)


def test_choosing_among_equal_settings_is_biased_by_what_is_reported():
    runs, base = trials(noise=0.01, settings=3, seeds=2)
    runs = Trials(runs.points, runs.setting)  # settings without an order: no parabola
    points, choices = choose(runs, sigma=0.01)
    found = float((np.repeat(base, 2) - points.loss).mean())
    reported = float(np.mean([choice.bias_nats for choice in choices]))
    assert found == pytest.approx(0.846 * 0.01 / np.sqrt(2), abs=0.003)
    assert reported == pytest.approx(found, abs=0.003)
    check = selection_checks(choices)[0]
    assert check.code == "selection_bias"
    assert f"{reported:.4f} nats on average" in check.message
    assert codes(selection_checks(choose(runs)[1])) == {"selection_bias_unknown"}


def test_a_clear_winner_is_not_biased():
    _, choices = choose(trials(noise=0.01, depth=2.0)[0], sigma=0.01)
    assert max(choice.bias_nats for choice in choices) < 0.001
    assert {choice.contenders for choice in choices} == {1}
    untuned, _ = trials(noise=0.01, settings=1)
    points, choices = choose(untuned, sigma=0.01)
    assert {choice.bias_nats for choice in choices} == {0.0}
    assert points.loss == pytest.approx(untuned.points.loss)
    assert selection_checks(choices) == ()


def test_the_winner_keeps_its_seeds_and_fresh_ones_do_not_choose():
    """Three settings with one seed; the winner confirmed with a second seed that went badly."""
    runs = Points([1e7] * 4, [1e9] * 4, [3.00, 2.90, 2.95, 3.20], cell=["a"] * 4, seed=[0, 0, 0, 1], line=["dense"] * 4)
    rates = np.array([0.01, 0.02, 0.04, 0.02])
    points, choices = choose(Trials(runs, np.array([f"{r:g}" for r in rates]), rates), sigma=0.05)
    assert choices[0].setting == "0.02"
    bottom = np.polynomial.polynomial.polyfit(np.log(rates[:3]), runs.loss[:3], 2)
    shift = bottom[0] - bottom[1] ** 2 / (4 * bottom[2]) - 2.90
    assert points.loss == pytest.approx([2.90 + shift, 3.20 + shift])
    assert choices[0].loss == pytest.approx(3.05 + shift)


def test_an_optimum_at_the_edge_of_the_rates_is_noticed():
    _, choices = choose(trials(depth=0.3, centre=1.4)[0])
    assert all(choice.at_edge for choice in choices)
    assert "rate_at_edge" in codes(selection_checks(choices))


def test_two_rates_cannot_tell_whether_the_best_is_bracketed():
    _, choices = choose(trials(settings=2)[0])
    assert {choice.at_edge for choice in choices} == {None}
    assert "rate_at_edge" not in codes(selection_checks(choices))


def test_draws_choose_again():
    runs, _ = trials(noise=0.01, depth=0.02)
    points, _ = choose(runs, sigma=0.01)
    made = fit(points, objective="log_mse")
    again = bootstrap_tuned(made, tuned_deviations(runs, made, draws=100, seed=0, sigma=0.01))
    assert again.failed == 0
    low, high = again.interval("N")
    assert low < made.exponents["N"] < high


def test_intervals_that_choose_again_hold_the_truth_where_others_do_not():
    """Five equally good settings in every cell: the losses kept are too low by one σ. Truth: the frontier's loss."""
    truth = frontier(fit(trials()[0].points)).at(1e20).loss
    again, plain = 0, 0
    for seed in range(20):
        runs = trials(noise=0.01, seed=seed)[0]
        runs = Trials(runs.points, runs.setting)
        made = fit(choose(runs)[0], objective="log_mse")
        tuned = bootstrap_tuned(made, tuned_deviations(runs, made, draws=100, seed=1, sigma=0.01))
        for draws in (tuned, bootstrap(made, draws=100, seed=1, kind="residuals")):
            low, high = np.quantile(frontier(made, draws=draws).loss_draws(1e20), [0.025, 0.975])
            again += draws is tuned and low <= truth <= high
            plain += draws is not tuned and low <= truth <= high
    assert again >= 17
    assert plain <= 12


def test_trials_need_cells():
    with pytest.raises(FitError, match="cell"):
        Trials(isoflop_points(), np.zeros(35))
