import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest

from scaling.hardware import Device, find_device
from scaling.sweeps.grids import Plan
from scaling.sweeps.memory import USABLE, Placement
from scaling.sweeps.price import Throughput, matrix, price, rank_table, stages
from scaling.sweeps.sharing import Sharing

Values = dict[str, Any]
ROUND = Device("round", {"float32": 1e12}, 1e11, 1e9, 0.5, "made up", cost_per_hour=2.0)


@pytest.fixture
def plan_(small: Values, planned: Callable[..., Plan]) -> Plan:
    return planned(small)


def test_hours_are_flops_over_the_assumed_rate(plan_: Plan) -> None:
    priced = price(plan_, device=ROUND)
    for planned, hours in zip(plan_.runs, priced.hours, strict=True):
        validation = planned.flops / planned.run.tokens / 3 * planned.run.data.validation_tokens
        assert hours == pytest.approx((planned.flops + planned.optimizer_flops + validation) / 0.5e12 / 3600)
    assert priced.totals.hours == pytest.approx(sum(priced.hours))
    assert priced.totals.cost == pytest.approx(2.0 * sum(priced.hours))


def test_a_step_takes_at_least_the_launches_of_its_layers(plan_: Plan) -> None:
    """Tiny models on a GPU; of runs that share it the launches go on side by side."""
    slow = replace(ROUND, layer_seconds=1.0)
    alone, shared = price(plan_, device=slow), price(plan_, device=slow, sharing=Sharing(runs=4))
    for n, planned in enumerate(plan_.runs):
        wall = planned.run.steps * planned.run.shape.layers
        validation = planned.flops / planned.run.tokens / 3 * planned.run.data.validation_tokens
        wall *= 1 + validation / (planned.flops + planned.optimizer_flops)
        assert alone.hours[n] * 3600 == pytest.approx(wall)
        assert shared.device_hours[n] * 3600 == pytest.approx(wall / 4)
        assert shared.hours[n] * 3600 == pytest.approx(wall)
    measured = [Throughput(line, 1_000, 1e9) for line in {planned.line for planned in plan_.runs}]
    assert price(plan_, device=slow, measured=measured).hours == price(plan_, device=ROUND, measured=measured).hours


def test_devices_share_a_run_but_not_its_device_hours(plan_: Plan) -> None:
    one, four = price(plan_, device=ROUND), price(plan_, device=ROUND, placed=lambda run: Placement(4))
    assert four.hours[0] == pytest.approx(one.hours[0] / 4)
    assert four.totals.hours == pytest.approx(one.totals.hours)


def test_measured_rates_replace_the_assumption_for_their_line(plan_: Plan) -> None:
    measured = [Throughput("dense", 1_000, 1e9), Throughput("dense", 100_000, 1e11), Throughput("dense", 100_000, 1e11)]
    priced = price(plan_, device=ROUND, measured=measured)
    assumed = price(plan_, device=ROUND)
    for planned, hours, before in zip(plan_.runs, priced.hours, assumed.hours, strict=True):
        validation = planned.flops / planned.run.tokens / 3 * planned.run.data.validation_tokens
        work = (planned.flops + planned.optimizer_flops + validation) / 3600
        if planned.line == "dense":
            # 1e9 at 1,000 and 1e11 at 100,000 parameters: proportional in between, flat outside
            assert work / hours == pytest.approx(1e6 * min(max(planned.counts.params_matmul, 1e3), 1e5))
        else:
            assert hours == before


def test_a_run_that_does_not_fit_is_an_error_that_names_it(plan_: Plan) -> None:
    least = min(run.memory_bytes for run in plan_.runs) / USABLE
    small_device = Device("tiny", {"float32": 1e12}, 1e11, least, 0.5, "made up")
    (check,) = [c for c in price(plan_, device=small_device).checks if c.code == "does_not_fit"]
    assert check.severity == "error"
    assert str(max(plan_.runs, key=lambda run: run.memory_bytes).cell) in check.message
    assert not [c for c in price(plan_, device=ROUND).checks if c.code == "does_not_fit"]


def test_memory_is_that_of_the_strategy(planned: Callable[..., Plan]) -> None:
    """A dense model of 12.7B parameters on eight 141 GB cards: 152 GB of weights, gradients and state at least."""
    shape = {"layers": 40, "width": 5120, "heads": 40, "ff_width": 13824}
    sweep = {
        "sweep": "large",
        "question": "Does it fit?",
        "grid": {"kind": "points", "points": [{"shape": shape, "tokens": 2**32}]},
        "families": {"dense": {"parameterization": "dense", "optimizer": "muon", "lr": 0.02}},
        "training": {"sequence_length": 2048, "batch_tokens": 2**20},
    }
    plan = planned(sweep)
    (run,) = plan.runs
    assert run.counts.params_total > 12e9
    h200 = find_device("h200")

    def fits(ranks: int, strategy: Literal["ddp", "fsdp"]) -> bool:
        priced = price(plan, device=h200, placed=lambda run: Placement(ranks, strategy))
        assert (priced.rows()[0].memory_bytes_per_device < USABLE * h200.memory_bytes) == priced.splits[0].fits
        return "does_not_fit" not in {check.code for check in priced.checks}

    assert not fits(8, "ddp")
    assert not fits(1, "fsdp")
    assert fits(8, "fsdp")


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        (Placement(3), "batch_not_even", "4 sequences over 3 ranks"),
        (Placement(2, "ddp", 3), "batch_not_even", "2 sequences of each of 2 ranks in parts of 3"),
        (Placement(1, "ddp", 4), "does_not_fit", "with 4 sequences at once on 1 tiny needs"),
    ],
)
def test_placements_that_cannot_be_are_refused_with_the_numbers(
    small: Values, planned: Callable[..., Plan], place: Placement, code: str, said: str
) -> None:
    small["training"]["batch_tokens"] = 4 * 128
    plan_ = planned(small)
    assert {run.run.batch_tokens // run.run.sequence_length for run in plan_.runs} == {4}
    largest = max(run.memory_bytes for run in plan_.runs) / USABLE
    device = Device("tiny", {"float32": 1e12}, 1e11, largest, 0.5, "made up")
    found = {check.code: check for check in price(plan_, device=device, placed=lambda run: place).checks}
    assert found[code].severity == "error"
    assert said in found[code].message
    assert code not in {check.code for check in price(plan_, device=device).checks}


def test_a_precision_that_the_device_lacks_is_refused(small: Values, planned: Callable[..., Plan]) -> None:
    small["training"]["precision"] = "bfloat16"
    (check,) = [c for c in price(planned(small), device=ROUND).checks if c.code == "precision_not_on_device"]
    assert check.severity == "error"
    assert "bfloat16; the row of round has float32" in check.message


def test_epochs_are_known_with_the_corpus_and_many_are_said(plan_: Plan) -> None:
    assert price(plan_, device=ROUND).totals.epochs is None
    longest = max(run.run.tokens for run in plan_.runs)
    assert price(plan_, device=ROUND, corpus_tokens=longest).totals.epochs == 1
    codes = {c.code for c in price(plan_, device=ROUND, corpus_tokens=longest / 5).checks}
    assert "many_epochs" in codes


def test_the_matrix_has_one_row_per_cell_and_adds_up(small: Values, planned: Callable[..., Plan]) -> None:
    small["training"]["seeds"] = [0, 1]
    priced = price(planned(small), device=ROUND)
    rows = matrix(priced)
    assert len(rows) == 27
    assert sum(row.runs for row in rows) == 54
    assert sum(row.hours for row in rows) == pytest.approx(priced.totals.hours)


def test_the_rank_table_shows_what_is_kept(plan_: Plan) -> None:
    rows = {(row.line, row.shape, row.matrix): row for row in rank_table(plan_)}
    row = rows["low_rank@0.25", "d32L2", "down"]
    assert (row.outputs, row.inputs, row.rank) == (32, 88, 22)
    assert row.rank_over_min == pytest.approx(22 / 32)
    assert row.kept == pytest.approx(22 * 120 / (32 * 88))
    assert not any(line == "dense" for line, _, _ in rows)


def test_tuning_is_priced_per_family_and_stage(small: Values, planned: Callable[..., Plan]) -> None:
    small["families"]["dense"]["lr"] = [0.01, 0.02, 0.04]
    small["tune"] = {"cells": 1, "confirm": 1}
    priced = price(planned(small), device=ROUND)
    rows = {(row.family, row.stage): row for row in stages(priced)}
    assert (rows["dense", "tune"].runs, rows["dense", "tune"].pending) == (3, False)
    assert (rows["dense", "grid"].runs, rows["dense", "grid"].pending) == (8, True)
    assert rows["low_rank", "grid"].runs == 18
    totals = priced.totals
    assert totals.pending.gpu_hours == totals.pending_hours == pytest.approx(sum(priced.pending_hours)) != 0
    assert (totals.money, totals.pending.money) == pytest.approx((2 * totals.gpu_hours, 2 * totals.pending.gpu_hours))
    assert totals.cost == pytest.approx(totals.money + totals.pending.money)
    assert totals.pending.runs == 8 + 3 + 1


def test_the_document_is_json_with_the_promised_keys(plan_: Plan) -> None:
    document = json.loads(json.dumps(price(plan_, device=find_device("cpu")).document(), allow_nan=False))
    promised = (
        "id family line parameterization optimizer rank_ratio shape params_total params_non_embedding params_matmul"
    )
    promised += " tokens steps budget flops flops_6nd lr seed hours micro_batch memory_bytes_per_device memory_parts"
    parts = {"weights", "gradients", "optimizer", "activations", "logits", "update", "measuring"}
    assert {"sweep", "flops_convention", "runs", "dropped", "totals", "checks"} <= document.keys()
    for row in document["runs"]:
        assert set(promised.split()) <= row.keys()
        assert row["memory_parts"].keys() == parts
        assert max(row["memory_parts"].values()) < row["memory_bytes_per_device"] < sum(row["memory_parts"].values())
    assert {"runs", "flops", "hours", "gpu_hours", "money", "pending"} <= document["totals"].keys()
    assert {"gpu_hours", "money"} <= document["totals"]["pending"].keys()
