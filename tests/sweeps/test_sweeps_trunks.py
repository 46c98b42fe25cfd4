from collections.abc import Callable
from typing import Any

import pytest

from scaling.errors import SpecError
from scaling.hardware import Device
from scaling.sweeps.counting import optimizer_flops, state_bytes, training_flops
from scaling.sweeps.grids import Plan
from scaling.sweeps.price import price

Values = dict[str, Any]
ROUND = Device("round", {"float32": 1e12}, 1e11, 1e9, 0.5, "made up", cost_per_hour=2.0)


@pytest.fixture
def horizons(small: Values) -> Values:
    """Every small shape at three lengths, on one stable phase."""
    small["grid"] = {"kind": "tokens_per_param", "multiples": [80, 20, 40], "ladder": "tiny"}
    small["grid"]["filters"] = {"max_params": 12_000}
    small["training"] |= {"batch_tokens": 512, "schedule": {"kind": "wsd", "warmup_steps": 50, "decay": 0.2}}
    return small


def reasons(plan: Plan) -> list[str]:
    return [check.message for check in plan.checks if check.code == "trunk_not_shared"]


def test_lengths_of_one_model_and_seed_are_one_trunk(horizons: Values, planned: Callable[..., Plan]) -> None:
    horizons["training"]["seeds"] = [0, 1]
    plan = planned(horizons)
    trunks: dict[str, list[Any]] = {}
    for one in plan.runs:
        trunks.setdefault(one.trunk, []).append(one)
    models = {(one.line, one.run.shape, one.run.seed) for one in plan.runs}
    assert len(trunks) == len(models) == len(plan.runs) / 3
    for members in trunks.values():
        members.sort(key=lambda one: one.run.steps)
        branches = [one.run.steps - one.run.schedule.decay_steps for one in members]
        assert [one.inherited_steps for one in members] == [0, *branches[:-1]]
        own = sum(one.own_steps for one in members)
        assert own == branches[-1] + sum(one.run.schedule.decay_steps for one in members)
    assert not reasons(plan)


def test_the_price_counts_a_trunk_once(horizons: Values, planned: Callable[..., Plan]) -> None:
    plan = planned(horizons)
    priced = price(plan, device=ROUND)
    flops = seconds = 0.0
    for one in plan.runs:
        run = one.run
        tokens = one.own_steps * run.batch_tokens
        own = training_flops(run.shape, run.ranks, sequence_length=run.sequence_length, tokens=tokens)
        flops += own
        validation = one.flops / run.tokens / 3 * run.data.validation_tokens  # every branch has its own
        seconds += (own + optimizer_flops(run.shape, run.ranks, run.optimizer, one.own_steps) + validation) / 0.5e12
    totals = priced.totals
    assert totals.flops == pytest.approx(flops)
    assert totals.shared_flops == pytest.approx(sum(one.flops for one in plan.runs) - flops)
    assert totals.shared_flops > 0.3 * totals.flops
    assert totals.hours == pytest.approx(seconds / 3600)
    assert totals.cost == pytest.approx(2 * seconds / 3600)
    assert totals.tokens == sum(one.own_steps * one.run.batch_tokens for one in plan.runs)
    assert totals.trunk_bytes == sum(state_bytes(one.run) for one in plan.runs)
    alone = (
        one.flops + one.optimizer_flops + one.flops / one.run.tokens / 3 * one.run.data.validation_tokens
        for one in plan.runs
    )
    assert totals.longest_hours == pytest.approx(max(alone) / 0.5e12 / 3600)
    assert {row["trunk"] for row in priced.document()["runs"]} == {one.trunk for one in plan.runs}


def test_other_schedules_and_single_lengths_share_nothing(horizons: Values, planned: Callable[..., Plan]) -> None:
    horizons["grid"]["multiples"] = [20]
    alone = planned(horizons)
    horizons["grid"]["multiples"] = [20, 40]
    horizons["training"]["schedule"] = {"kind": "linear"}
    for plan in (alone, planned(horizons)):
        assert all((one.trunk, one.inherited_steps) == (None, 0) for one in plan.runs)
        assert not reasons(plan)
        assert (price(plan, device=ROUND).totals.trunks, price(plan, device=ROUND).totals.shared_flops) == (0, 0)


@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        ("training.batch_tokens", {"recipe": "sqrt-tokens"}, "dense, low_rank@0.25, low_rank@0.5: batch_tokens"),
        ("training.batch_tokens", {"recipe": "sqrt-tokens"}, "differs by recipe sqrt-tokens"),
        ("training.batch_tokens", 4096, "some runs are no longer than the warm-up"),
        ("training.schedule", {"kind": "wsd", "decay": 0.2}, "warm-up is a share of the steps (write warmup_steps)"),
        (
            "training.schedule",
            {"kind": "wsd", "decay": 0.2, "warmup": {"recipe": "capped-fraction"}},
            "warmup_steps differs by recipe capped-fraction",
        ),
        ("training.schedule", {"kind": "wsd", "decay": 1}, "a decay of all steps leaves no stable phase"),
        ("families.dense.other_lr", {"recipe": "step-law-lr"}, ": dense: other_lr differs by recipe step-law-lr."),
        ("families.dense.weight_decay", {"recipe": "ema-timescale"}, "dense: weight_decay differs by recipe"),
    ],
)  # fmt: skip
def test_what_prevents_sharing_is_named(
    horizons: Values, planned: Callable[..., Plan], where: str, value: object, reason: str
) -> None:
    *path, key = where.split(".")
    block = horizons
    for name in path:
        block = block[name]
    block[key] = value
    (message,) = reasons(planned(horizons))
    assert reason in message


def test_a_dense_helper_prevents_sharing(horizons: Values, planned: Callable[..., Plan]) -> None:
    horizons["families"]["low_rank"] |= {"optimizer": "muon", "self_guided": 0.5, "rank_ratio": 0.25}
    plan = planned(horizons)
    assert ": low_rank@0.25: the dense helper fades over a share of all steps." in reasons(plan)[0]
    assert {one.line for one in plan.runs if one.trunk} == {"dense"}


def test_tuned_values_are_no_reason(horizons: Values, planned: Callable[..., Plan]) -> None:
    horizons["families"]["dense"]["lr"] = [0.01, 0.02]
    horizons["training"]["batch_tokens"] = [256, 512]
    plan = planned(horizons)
    assert not reasons(plan)
    assert len({one.trunk for one in plan.runs if one.line == "dense"}) == 4 * len(
        {one.run.shape for one in plan.runs if one.line == "dense"}
    )


def test_a_warm_up_is_said_once(horizons: Values, planned: Callable[..., Plan]) -> None:
    horizons["training"]["schedule"]["warmup"] = 0.1
    with pytest.raises(SpecError, match="said twice") as error:
        planned(horizons)
    assert "warmup_steps" in error.value.where
