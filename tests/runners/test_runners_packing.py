from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.runners.packing import Task, in_order, pack

TIMES = st.dictionaries(
    st.text("abcdef0123456789", min_size=4, max_size=4), st.none() | st.floats(0.0, 1e4), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(TIMES, st.none() | st.floats(1.0, 5e3), st.integers(1, 8))
def test_every_run_is_in_exactly_one_task(seconds, target, slots):
    tasks = pack(seconds, target_seconds=target, slots=slots)
    assert sorted(run for task in tasks for run in task.runs) == sorted(seconds)
    assert all(1 <= task.slots <= slots for task in tasks)


@settings(max_examples=150, deadline=None)
@given(TIMES, st.floats(1.0, 5e3), st.integers(1, 8))
def test_long_and_unknown_runs_are_alone_and_short_ones_are_balanced(seconds, target, slots):
    tasks = pack(seconds, target_seconds=target, slots=slots)
    for task in tasks:
        if any(seconds[run] is None or seconds[run] >= target for run in task.runs):
            assert len(task.runs) == 1
    short = [t for t in tasks if all(seconds[r] is not None and seconds[r] < target for r in t.runs)]
    loads = [sum(seconds[run] for run in task.runs) for task in short]
    if loads:  # LPT: no two tasks differ by more than one run, and none is beyond the target by more than one
        assert max(loads) - min(loads) <= max(seconds[run] for task in short for run in task.runs) + 1e-9
        assert max(loads) <= target * slots + max(seconds[r] for t in short for r in t.runs) + 1e-9


def test_the_longest_run_goes_first_in_a_task_and_the_longest_task_first():
    tasks = pack({"a": 1.0, "b": 3.0, "c": 2.0, "long": 100.0, "new": None}, target_seconds=10.0)
    assert tasks == [Task(("new",), 1, None), Task(("long",), 1, 100.0), Task(("b", "c", "a"), 1, 6.0)]


def test_slots_work_side_by_side():
    (task,) = pack({f"{k}": 10.0 for k in range(8)}, target_seconds=20.0, slots=4)
    assert (task.slots, task.seconds) == (4, pytest.approx(20.0))


def test_without_a_target_nothing_is_packed():
    assert [task.runs for task in pack({"a": 1.0, "b": 2.0})] == [("b",), ("a",)]


def test_the_same_runs_in_another_order_give_the_same_tasks():
    seconds = {f"{k:02d}": float(k % 7) for k in range(30)}
    backwards = dict(reversed(seconds.items()))
    assert pack(seconds, target_seconds=9.0) == pack(backwards, target_seconds=9.0)


@settings(max_examples=100, deadline=None)
@given(TIMES, st.none() | st.floats(1.0, 5e3), st.integers(1, 8))
def test_a_trunk_is_one_unit_in_the_order_given(seconds, target, slots):
    trunks = {run: f"trunk {run[0]}" for run in seconds if run[0] in "abc"}
    tasks = pack(seconds, target_seconds=target, slots=slots, trunks=trunks)
    assert sorted(run for task in tasks for run in task.runs) == sorted(seconds)
    for trunk in set(trunks.values()):
        branches = [run for run in seconds if trunks.get(run) == trunk]
        (task,) = [task for task in tasks if set(branches) & set(task.runs)]
        first = task.runs.index(branches[0])
        assert list(task.runs[first : first + len(branches)]) == branches


def test_workers_take_the_longest_trunk_first_and_its_branches_shortest_first(a_plan_row):
    rows = [
        a_plan_row(id="single", hours=5.0, steps=50),
        a_plan_row(id="long", trunk="t", hours=3.0, steps=80),
        a_plan_row(id="short", trunk="t", hours=2.0, steps=20),
        a_plan_row(id="middle", trunk="t", hours=1.0, steps=40),
        a_plan_row(id="tiny", hours=0.1, steps=99),
    ]
    assert [row.id for row in in_order(rows)] == ["short", "middle", "long", "single", "tiny"]
