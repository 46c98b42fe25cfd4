import math
from collections.abc import Callable
from typing import Any

import pytest

from scaling.sweeps.grids import Plan
from scaling.sweeps.resolve import PlannedRun

Values = dict[str, Any]
Planned = Callable[..., Plan]


@pytest.fixture
def tuned(small: Values) -> Values:
    del small["families"]["low_rank"]
    small["families"]["dense"] |= {"lr": [0.01, 0.02, 0.04], "momentum": [0.9, 0.95]}
    small["tune"] = {"cells": 2, "recheck": True, "confirm": 1}
    return small


def loss(run: PlannedRun, best: float) -> float:
    """Lower near one rate; a higher momentum is better."""
    return 2.0 + math.log(run.run.optimizer.lr / best) ** 2 - run.run.optimizer.momentum


def finished(plan: Plan, best: float = 0.02) -> dict[str, float]:
    return {run.run.id: loss(run, best) for run in plan.runs}


def stage(plan: Plan, name: str) -> list[PlannedRun]:
    return [run for run in plan.runs if run.stage == name]


def test_the_first_stage_tunes_a_few_cells_of_the_smallest_budget(tuned: Values, planned: Planned) -> None:
    plan = planned(tuned)
    assert {run.stage for run in plan.runs} == {"tune"}
    assert len(plan.runs) == 2 * 6
    assert {run.budget for run in plan.runs} == {2e10}
    waiting = {name: sum(run.stage == name for run in plan.pending) for name in ("grid", "recheck", "confirm")}
    assert waiting == {"grid": 7, "recheck": 5, "confirm": 2}


def test_the_winner_runs_everywhere_is_rechecked_and_confirmed(tuned: Values, planned: Planned) -> None:
    plan = planned(tuned, losses=finished(planned(tuned)))
    assert not plan.pending
    grid = stage(plan, "grid")
    assert len({run.cell for run in plan.runs}) == 9
    assert {(run.run.optimizer.lr, run.run.optimizer.momentum) for run in grid} == {(0.02, 0.95)}
    confirm = stage(plan, "confirm")
    assert [(run.run.seed, run.run.optimizer.lr) for run in confirm] == [(1, 0.02)] * 2
    rechecked = stage(plan, "recheck")
    assert {run.budget for run in rechecked} == {2e11}
    # The winner's own run at that cell belongs to the grid; its neighbours in each list are new.
    assert {(run.run.optimizer.lr, run.run.optimizer.momentum) for run in rechecked} == {
        (0.01, 0.95),
        (0.04, 0.95),
        (0.02, 0.9),
    }


def test_no_winner_is_named_while_a_loss_is_missing(tuned: Values, planned: Planned) -> None:
    losses = finished(planned(tuned))
    losses.popitem()
    assert {run.stage for run in planned(tuned, losses=losses).runs} == {"tune"}


def test_a_diverged_setting_cannot_win(tuned: Values, planned: Planned) -> None:
    first = planned(tuned)
    losses = finished(first)
    for run in first.runs:
        if run.run.optimizer.lr == 0.02:
            losses[run.run.id] = math.inf
    assert all(run.run.optimizer.lr != 0.02 for run in stage(planned(tuned, losses=losses), "grid"))


def codes(plan: Plan) -> set[str]:
    return {check.code for check in plan.checks}


def test_a_rate_at_the_edge_of_its_list_is_said(tuned: Values, planned: Planned) -> None:
    tuned["families"]["dense"]["momentum"] = 0.95
    first = planned(tuned)
    assert "rate_at_edge" not in codes(planned(tuned, losses=finished(first, best=0.02)))
    assert "rate_at_edge" in codes(planned(tuned, losses=finished(first, best=0.05)))
    tuned["families"]["dense"]["lr"] = [0.01, 0.02]
    assert "rate_at_edge" not in codes(planned(tuned, losses=finished(planned(tuned), best=0.02)))


def test_a_rate_that_does_not_transfer_is_said(tuned: Values, planned: Planned) -> None:
    losses = finished(planned(tuned))
    second = planned(tuned, losses=losses)
    for best, found in ((0.02, False), (0.01, True)):
        large = {run.run.id: loss(run, best) for run in second.runs if run.budget == 2e11}
        assert ("rate_does_not_transfer" in codes(planned(tuned, losses=losses | large))) == found


def test_every_cell_may_be_tuned_and_its_winner_confirmed(tuned: Values, planned: Planned) -> None:
    tuned["tune"] = {"cells": "all", "confirm": 2}
    first = planned(tuned)
    assert len(stage(first, "grid")) == 9 * 6
    second = planned(tuned, losses=finished(first))
    assert len(stage(second, "confirm")) == 9 * 2
    assert {run.run.seed for run in stage(second, "confirm")} == {1, 2}


def test_batches_are_tuned_at_equal_tokens(small: Values, planned: Planned) -> None:
    small["training"]["batch_tokens"] = [128, 256]
    plan = planned(small)
    by_cell: dict[str, set[int]] = {}
    for run in plan.runs:
        by_cell.setdefault(run.cell, set()).add(run.run.batch_tokens)
    assert all(batches == {128, 256} for batches in by_cell.values())


def test_untuned_families_are_reported_as_such(tuned: Values, small: Values, planned: Planned) -> None:
    assert {"untuned_rate", "unequal_tuning"} & codes(planned(tuned)) == set()
    tuned["families"]["other"] = {"parameterization": "dense", "optimizer": "adamw", "lr": 0.006}
    assert {"untuned_rate", "unequal_tuning", "optimizer_differs"} <= codes(planned(tuned))
