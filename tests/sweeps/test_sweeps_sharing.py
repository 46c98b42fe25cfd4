"""How many runs share a GPU, and what that does to memory, time and money."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scaling.hardware import Device
from scaling.sweeps.grids import Plan
from scaling.sweeps.memory import USABLE, Placement, split
from scaling.sweeps.price import Throughput, matrix, price
from scaling.sweeps.sharing import CONTEXT_BYTES, MOST, Sharing

Values = dict[str, Any]
GPU = Device("gpu", {"float32": 1e12}, 1e11, 80e9, 0.4, "simulated", cost_per_hour=2.0)
AUTO = Sharing("auto")


@pytest.fixture
def plan_(small: Values, planned: Callable[..., Plan]) -> Plan:
    return planned(small)


def largest(plan: Plan) -> float:
    """The memory that the largest run needs with its whole batch at once."""
    return max(split(one.run, memory_bytes=1e15).memory.peak for one in plan.runs)


def roomy(plan: Plan, runs: float) -> Device:
    """A GPU whose memory is that of `runs` of the largest run."""
    return replace(GPU, memory_bytes=runs * largest(plan) / USABLE)


def test_runs_that_share_a_gpu_take_longer_and_cost_the_same(plan_: Plan) -> None:
    alone, shared = price(plan_, device=GPU), price(plan_, device=GPU, sharing=Sharing(4))
    assert shared.runs_per_gpu == (4,) * len(plan_.runs)
    assert shared.hours == pytest.approx([4 * hours for hours in alone.hours])
    assert shared.longest_hours == pytest.approx(4 * alone.longest_hours)
    assert shared.device_hours == alone.device_hours
    assert shared.totals.money == alone.totals.money
    assert [row.to_json()["runs_per_gpu"] for row in shared.rows()] == [4] * len(plan_.runs)
    assert {cell.place.runs_per_gpu for cell in matrix(shared)} == {4}


def test_each_of_four_runs_has_a_quarter_of_the_memory(plan_: Plan) -> None:
    device = roomy(plan_, 4.01)
    fits = price(plan_, device=device, sharing=Sharing(4))
    assert [one.sequences for one in fits.splits] == [one.sequences for one in price(plan_, device=device).splits]
    tight = price(plan_, device=roomy(plan_, 3.9), sharing=Sharing(4))
    run = max(zip(plan_.runs, tight.splits, strict=True), key=lambda pair: pair[0].memory_bytes)
    assert run[1].memory.peak <= USABLE * roomy(plan_, 3.9).memory_bytes / 4  # by smaller parts
    assert run[1].sequences < run[0].run.batch_tokens // run[0].run.sequence_length


def test_a_run_that_does_not_fit_its_share_is_refused_with_the_numbers(plan_: Plan) -> None:
    device = replace(GPU, memory_bytes=max(one.memory_bytes for one in plan_.runs) / USABLE)
    assert "does_not_fit" not in {check.code for check in price(plan_, device=device).checks}
    (check,) = [c for c in price(plan_, device=device, sharing=Sharing(3)).checks if c.code == "does_not_fit"]
    assert "which 3 runs share" in check.message


@pytest.mark.parametrize(("runs", "count"), [(1.9, 1), (2.1, 2), (3.9, 2), (4.1, 4), (1e6, MOST)])
def test_auto_is_the_largest_power_of_two_that_leaves_micro_batches_as_they_are(
    plan_: Plan, runs: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scaling.sweeps.sharing.CONTEXT_BYTES", 1.0)
    priced = price(plan_, device=roomy(plan_, runs), sharing=AUTO)
    at = max(range(len(plan_.runs)), key=lambda k: split(plan_.runs[k].run, memory_bytes=1e15).memory.peak)
    assert priced.runs_per_gpu[at] == count
    assert max(priced.runs_per_gpu) <= MOST
    for planned, k in zip(plan_.runs, priced.runs_per_gpu, strict=True):
        place = Placement(runs_per_gpu=k)
        assert split(planned.run, memory_bytes=priced.device.memory_bytes, placement=place).memory.peak * k <= (
            USABLE * priced.device.memory_bytes
        )


def test_auto_leaves_every_process_room_for_its_context(plan_: Plan) -> None:
    for gigabytes, count in ((80, 8), (200, 32), (25, 4)):
        device = replace(GPU, memory_bytes=gigabytes * 1e9)
        assert set(price(plan_, device=device, sharing=AUTO).runs_per_gpu) == {count}
        assert (1 - USABLE) * device.memory_bytes / count >= CONTEXT_BYTES


def test_auto_stops_where_measured_throughput_says_that_the_gpu_is_busy(plan_: Plan) -> None:
    """A fifth of the assumed rate: five runs fill the GPU, so four share it. Runs measured in company say nothing."""
    rate = 0.4 * 1e12 / 5
    sizes = [planned.counts.params_matmul for planned in plan_.runs if planned.line == "dense"]
    measured = [Throughput("dense", min(sizes), rate), Throughput("dense", max(sizes), 0.4e12)]
    measured += [Throughput("dense", size, 1e15, runs_per_gpu=2) for size in sizes]
    device = replace(GPU, memory_bytes=1e13)
    priced = price(plan_, device=device, sharing=AUTO, measured=measured)
    counts = {(p.line, p.counts.params_matmul): k for p, k in zip(plan_.runs, priced.runs_per_gpu, strict=True)}
    assert counts["dense", min(sizes)] == 4
    assert counts["dense", max(sizes)] == 1
    assert {k for (line, _), k in counts.items() if line != "dense"} == {MOST}


def test_auto_reads_the_measured_shares_of_a_device(plan_: Plan) -> None:
    device = replace(GPU, memory_bytes=1e13, mfu_by_width={8: 0.05, 64: 0.05})
    assert {
        k
        for p, k in zip(plan_.runs, price(plan_, device=device, sharing=AUTO).runs_per_gpu, strict=True)
        if p.run.ranks is None
    } == {8}


def test_auto_takes_no_more_runs_than_cores(plan_: Plan) -> None:
    assert set(price(plan_, device=GPU, sharing=AUTO, cores=lambda run: 5).runs_per_gpu) == {4}
    assert set(price(plan_, device=GPU, sharing=AUTO, cores=lambda run: 0).runs_per_gpu) == {1}


def test_long_runs_and_runs_of_several_ranks_are_alone(plan_: Plan) -> None:
    alone = price(plan_, device=GPU)
    middle = sorted(alone.hours)[len(alone.hours) // 2] * 3600
    shared = price(plan_, device=GPU, sharing=Sharing(4, below_seconds=4 * middle))
    assert shared.runs_per_gpu == tuple(4 if hours * 3600 < middle else 1 for hours in alone.hours)
    assert {1, 4} == set(shared.runs_per_gpu)
    ranks = price(plan_, device=GPU, sharing=Sharing(4), placed=lambda run: Placement(2))
    assert set(ranks.runs_per_gpu) == {1}


def test_one_number_holds_for_all_runs_of_a_uniform_launch(plan_: Plan) -> None:
    device = replace(GPU, memory_bytes=1e13)
    cores = lambda run: 4 if run.run.ranks else 8  # noqa: E731
    assert set(price(plan_, device=device, sharing=AUTO, cores=cores).runs_per_gpu) == {4, 8}
    assert set(price(plan_, device=device, sharing=replace(AUTO, uniform=True), cores=cores).runs_per_gpu) == {4}
