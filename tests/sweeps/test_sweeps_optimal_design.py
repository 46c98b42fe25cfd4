import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.errors import PlanError, SpecError
from scaling.laws.draws import Draws, bootstrap
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.points import Points
from scaling.sweeps.candidates import candidates, domain_of, extended
from scaling.sweeps.grids import Plan, plan
from scaling.sweeps.optimal_design import choose, ensemble, sharpen, variance_left
from scaling.sweeps.schema import Sweep, load_sweep
from scaling.sweeps.simulate import loss_of, plausible_law, points_of, simulate
from scaling.sweeps.templates import start

Values = dict[str, Any]
LAW = {"E": 1.7, "A": 400.0, "alpha": 0.34, "B": 1000.0, "beta": 0.36}


@pytest.fixture
def draws() -> Draws:
    budgets = np.repeat([1e17, 4e17, 1.6e18], 5)
    params = budgets**0.5 / 12 * np.tile([0.3, 0.6, 1.0, 1.7, 3.0], 3)
    points = Points(params, budgets / 6 / params, np.ones(15), flops=budgets)
    noise = 0.004 * np.random.default_rng(3).standard_normal(15)
    return bootstrap(fit(points.with_loss(loss_of(LAW, points) * np.exp(noise))), draws=80, kind="residuals")


@pytest.fixture
def more() -> Points:
    params = np.tile(np.geomspace(1e6, 1e9, 8), 5)
    flops = np.repeat(np.geomspace(1e17, 1e19, 5), 8)
    return Points(params, flops / 6 / params, np.ones(40), flops=flops)


def test_a_plausible_law_has_its_optimum_in_the_middle(draws: Draws) -> None:
    points = draws.fit.points
    law = plausible_law(points, exponent=0.6)
    n, d = (float(np.exp(np.log(v).mean())) for v in (points.params, points.tokens))
    assert law["alpha"] * law["A"] * n ** -law["alpha"] == pytest.approx(law["beta"] * law["B"] * d ** -law["beta"])
    assert law["beta"] / (law["alpha"] + law["beta"]) == pytest.approx(0.6)


def test_simulated_intervals_grow_with_noise_and_say_which_line_gives_no_law(
    small: Values, planned: Callable[..., Plan]
) -> None:
    small["grid"] |= {"sizes_per_budget": 5, "lines": {"low_rank@0.5": {"budgets": [2e10]}}}
    found = {
        noise: {one.line: one for one in simulate(planned(small), target=1e13, noise=noise, studies=40)}
        for noise in (0.002, 0.004)
    }
    quiet, loud = (found[noise]["dense"] for noise in (0.002, 0.004))
    assert loud.exponent_n == pytest.approx(2 * quiet.exponent_n, rel=0.35)
    assert loud.factor_n > quiet.factor_n > 1
    assert quiet.target_compute == 1e13
    alone = found[0.002]["low_rank@0.5"]
    assert alone.exponent_n is None
    assert alone.message


def test_stages_to_come_are_simulated_with_one_setting_of_every_cell(
    small: Values, planned: Callable[..., Plan]
) -> None:
    small["grid"]["sizes_per_budget"] = 5
    untuned = simulate(planned(small), target=1e13, studies=20)
    small["families"]["dense"]["lr"] = [0.01, 0.02, 0.04]
    small["tune"] = {"cells": 1}
    plan = planned(small)
    assert plan.pending
    staged = simulate(plan, target=1e13, studies=20)
    assert [(one.line, one.runs, one.message) for one in staged] == [
        (one.line, one.runs, one.message) for one in untuned
    ]
    assert staged[0].exponent_n == pytest.approx(untuned[0].exponent_n, rel=0.1)  # the same points in another order


def test_a_wider_design_is_expected_to_tell_more(small: Values, planned: Callable[..., Plan]) -> None:
    small["families"] = {"dense": small["families"]["dense"]}
    small["grid"]["sizes_per_budget"] = 5
    small["grid"]["budgets"] = ["5e10", "1e11", "2e11"]
    narrow = simulate(planned(small), target=1e13, studies=40)[0]
    small["grid"]["budgets"] = ["1e10", "4.5e10", "2e11"]
    assert simulate(planned(small), target=1e13, studies=40)[0].exponent_n < narrow.exponent_n


def test_gradients_are_those_of_the_log_loss(draws: Draws, more: Points) -> None:
    """Against differences of the law itself, at each draw, in log a, alpha, log b, beta, E around the centre."""
    one = ensemble(more, draws, target=1e20)
    n, d = (np.log(v).mean() for v in (draws.fit.points.params, draws.fit.points.tokens))
    for k in (0, 17):
        law = {name: float(values[k]) for name, values in draws.parameters.items()}
        step = 1e-6
        for place, name in enumerate(("A", "alpha", "B", "beta", "E")):
            moved = []
            for sign in (1, -1):
                other = dict(law)
                if name in ("A", "B"):
                    other[name] *= math.exp(sign * step)
                else:
                    other[name] += sign * step
                if name in ("alpha", "beta"):  # the term at the centre stays
                    term, centre = ("A", n) if name == "alpha" else ("B", d)
                    other[term] *= math.exp(sign * step * centre)
                moved.append(np.log(loss_of(other, more)))
            own = one.gradients[k, :, place] * draws.fit.sigma_log
            assert own == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=1e-6)


def test_the_goal_is_the_loss_at_the_frontier(draws: Draws, more: Points) -> None:
    one = ensemble(more, draws, target=1e20)
    n = np.log(draws.fit.points.params).mean()
    k, step = 5, 1e-4
    losses = []
    for sign in (1, -1):
        law = {name: float(values[k]) for name, values in draws.parameters.items()}
        law["alpha"] += sign * step
        law["A"] *= math.exp(sign * step * n)
        points = draws.fit.points.with_loss(loss_of(law, draws.fit.points))
        losses.append(frontier(fit(points)).at(1e20).loss)
    assert one.goal[k, 1] == pytest.approx(math.log(losses[0] / losses[1]) / (2 * step), rel=1e-3)


def test_variance_left_is_that_of_the_joint_information(draws: Draws, more: Points) -> None:
    one = ensemble(more, draws, target=1e20)
    chosen = [3, 20, 39]
    direct = []
    for k in range(len(one.goal)):
        rows = one.gradients[k, chosen]
        direct.append(one.goal[k] @ np.linalg.inv(one.information[k] + rows.T @ rows) @ one.goal[k])
    assert variance_left(one, chosen) == pytest.approx(np.exp(np.mean(np.log(direct))), rel=1e-8)


def test_chosen_runs_are_paid_and_beat_random_and_cheapest_first(draws: Draws, more: Points) -> None:
    one, spend = ensemble(more, draws, target=1e20), 3e19
    (chosen,) = choose([one], spend)
    assert chosen
    assert len(set(chosen)) == len(chosen)
    assert one.cost[chosen].sum() <= spend

    def taken(order: np.ndarray) -> list[int]:
        places, left = [], spend
        for place in order:
            if one.cost[place] <= left:
                left -= one.cost[place]
                places.append(int(place))
        return places

    rng = np.random.default_rng(0)
    others = [taken(np.argsort(one.cost, kind="stable")), *(taken(rng.permutation(40)) for _ in range(20))]
    assert variance_left(one, chosen) < min(variance_left(one, other) for other in others)
    assert variance_left(one, chosen) < variance_left(one, [])


@pytest.fixture
def fitted(small: Values, read: Callable[[Values], Sweep]) -> tuple[Sweep, dict[str, Draws]]:
    small["grid"]["sizes_per_budget"] = 5
    small["training"]["replicates"] = {"sizes": 1, "seeds": 2}
    sweep = read(small)
    done = plan(sweep, vocab_size=256)
    found = {}
    for line in ("dense", "low_rank@0.25"):
        points = points_of([run for run in done.runs if run.line == line], done.params_column, "exact")
        law = plausible_law(points)
        noise = 0.01 * np.random.default_rng(1).standard_normal(len(points))
        found[line] = bootstrap(fit(points.with_loss(loss_of(law, points) * np.exp(noise))), draws=80, kind="residuals")
    return sweep, found


def test_candidates_look_like_the_runs_of_the_sweep(fitted: tuple[Sweep, dict[str, Draws]]) -> None:
    sweep, _ = fitted
    own = plan(sweep, vocab_size=256)
    offered = candidates(own, vocab_size=256)
    assert {one.line for one in offered} == {"dense", "low_rank@0.25", "low_rank@0.5"}
    assert {one.kind for one in offered} == {"cell", "seed"}
    runs = [run for one in offered for run in one.runs]
    assert min(run.run.steps for run in runs) >= 500
    ratios = [run.run.tokens / run.counts.params_matmul for run in own.runs]
    own_range = min(ratios) / 1.03, max(ratios) * 1.03
    assert all(own_range[0] <= run.run.tokens / run.counts.params_matmul <= own_range[1] for run in runs)
    assert max(one.budget or 0 for one in offered) <= 10.3 * max(sweep.grid.budgets)
    assert not {run.run.id for run in runs} & {run.run.id for run in own.runs}
    assert str(domain_of(own)).startswith("at least 500 steps")


def test_the_filter_min_steps_says_how_many_steps_are_enough(
    small: Values, read: Callable[[Values], Sweep], fitted: tuple[Sweep, dict[str, Draws]]
) -> None:
    small["grid"]["filters"] = {"min_steps": 100}
    offered = candidates(plan(read(small), vocab_size=256), vocab_size=256)
    assert 100 <= min(run.run.steps for one in offered for run in one.runs) < 500


def test_no_candidate_where_the_recipe_is_valid_nowhere(small: Values, read: Callable[[Values], Sweep]) -> None:
    small["training"]["batch_tokens"] = 32768
    with pytest.raises(PlanError, match="recipe of this sweep is valid") as refused:
        candidates(plan(read(small), vocab_size=256), vocab_size=256)
    assert "500 steps" in str(refused.value)


def test_every_candidate_is_run_by_a_sweep_with_its_point(fitted: tuple[Sweep, dict[str, Draws]]) -> None:
    sweep, _ = fitted
    own = plan(sweep, vocab_size=256)
    offered = candidates(own, vocab_size=256)
    before = {run.run.id for run in own.runs}
    for one in (offered[0], offered[-1]):
        again = plan(extended(sweep, [one.point]), vocab_size=256)
        added = {run.run.id for run in again.runs} - before
        assert added == {run.run.id for run in one.runs}
        assert before <= {run.run.id for run in again.runs}


def test_what_sharpens_a_prediction_is_paid_and_worth_it(fitted: tuple[Sweep, dict[str, Draws]]) -> None:
    sweep, draws = fitted
    own = plan(sweep, vocab_size=256)
    offered = candidates(own, vocab_size=256)
    counts = {"column": own.params_column, "convention": "exact"}
    sharper = sharpen(offered, draws, spend=1e13, target=1e14, **counts)
    assert 0 < sum(one.compute for one in sharper.cells) <= 1e13
    assert len(sharper.cells) < 40
    assert all(one.kind == "cell" for one in sharper.cells)
    assert all(sharper.after[line] < sharper.before[line] for line in draws)
    with pytest.raises(PlanError, match="no cell can be added"):
        sharpen(offered, draws, spend=1e3, target=1e13, **counts)
    with pytest.raises(PlanError, match="no cell can be added"):
        sharpen([], draws, spend=1e12, target=1e13, **counts)


def test_init_writes_a_sweep_that_plans_and_never_overwrites(tmp_path: Path) -> None:
    sweep, runner = start("mine", tmp_path)
    assert runner.exists()
    assert load_sweep(sweep).name == "mine"
    assert len(plan(load_sweep(sweep), vocab_size=256).runs) > 20
    runner.write_text("runner: local\nslots: 1\n")
    with pytest.raises(SpecError, match="there is a sweep"):
        start("mine", tmp_path)
    start("other", tmp_path)
    assert "slots: 1" in runner.read_text()
    for name in ("../x", "a b", "", "x" * 80, "a;b"):
        with pytest.raises(SpecError, match="not a name"):
            start(name, tmp_path)
