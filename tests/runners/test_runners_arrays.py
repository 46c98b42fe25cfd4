from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scaling.errors import SpecError
from scaling.runners.scheduler import Work
from scaling.runners.slurm.arrays import make_arrays
from scaling.runners.slurm.script import array_parameters

pytest_plugins = ("slurm_fixtures",)

RULES = "resources: [{max_params: 1e6, gpus: 1, cpus_per_gpu: 8}, {gpus: 8, nodes: 2}]"
FIXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def work(*sizes: float, seconds: float | None = 7200.0) -> list[Work]:
    return [Work(f"{n:016x}", params, seconds) for n, params in enumerate(sizes)]


def test_the_first_rule_that_fits_a_run_is_used(slurm_profile):
    small, large = make_arrays(slurm_profile(RULES), work(1e5, 1e6, 1e9))
    assert (small.resources.gpus, len(small.tasks)) == (1, 2)
    assert (large.resources.ranks, len(large.tasks)) == (16, 1)


def test_a_run_that_no_rule_takes_is_refused(slurm_profile):
    with pytest.raises(SpecError, match="no resource rule"):
        make_arrays(slurm_profile("resources: [{max_params: 1e6}]"), work(1e7))


def test_arrays_are_cut_at_the_cluster_s_max_array_size(slurm_profile):
    arrays = make_arrays(slurm_profile(), work(*[1.0] * 23), max_array_size=10)
    assert [len(array.tasks) for array in arrays] == [10, 10, 3]


def test_short_runs_share_tasks_with_slots_and_long_ones_do_not(slurm_profile):
    runs = [Work("long", 1, 9000.0), *(Work(f"{n}", 1, 60.0) for n in range(100))]
    long, packed = make_arrays(slurm_profile("pack: {target: 30m}", "slots: 2"), runs)
    assert [task.runs for task in long.tasks] == [("long",)]
    assert packed.slots == 2
    assert [task.seconds for task in packed.tasks] == pytest.approx([1500.0, 1500.0])


@FIXED
@example([1e5] + [1e9] * 10, 4, 9)  # the least share of one task each is more than there is to share
@given(st.lists(st.sampled_from([1e5, 1e9]), min_size=1, max_size=60), st.integers(1, 12), st.integers(1, 9))
def test_no_launch_runs_more_tasks_at_a_time_than_max_concurrent(slurm_profile, sizes, limit, max_array_size):
    arrays = make_arrays(slurm_profile(RULES, f"max_concurrent: {limit}"), work(*sizes), max_array_size=max_array_size)
    assert sorted(run for array in arrays for run in array.run_ids) == [f"{n:016x}" for n in range(len(sizes))]
    at_once = [array.parallelism for array in arrays if array.after is None]
    assert sum(at_once) <= limit
    assert min(at_once) >= 1
    for place, array in enumerate(arrays):
        if array.after is not None:  # it starts when an earlier one has ended, and takes its place
            assert array.after < place
            assert array.parallelism == arrays[array.after].parallelism


def test_runs_that_may_share_a_gpu_are_packed_with_as_many_slots_and_fewer_gpus(slurm_profile):
    profile = slurm_profile(RULES, "pack: {target: 30m}", "slots: 2")
    runs = [Work(f"{n}", 1, 240.0, runs_per_gpu=4) for n in range(80)] + [Work("one", 1, 60.0)]
    packed, single = make_arrays(profile, runs)
    assert (packed.slots, packed.runs_per_gpu, packed.shares) == (8, 4, 2)
    assert [task.seconds for task in packed.tasks] == pytest.approx([1200.0, 1200.0])
    assert (single.slots, single.shares) == (1, 1)
    wanted = array_parameters(profile, packed, name="a")
    assert (wanted["gpus_per_node"], wanted["cpus_per_task"]) == (2, 16)
    crowded = make_arrays(profile, [Work(f"{n}", 1, 60.0, runs_per_gpu=16) for n in range(80)])
    assert array_parameters(profile, crowded[0], name="a")["cpus_per_task"] == 32  # one core for every process


def test_a_packed_task_with_fewer_runs_asks_for_fewer_gpus(slurm_profile):
    profile = slurm_profile(RULES, "pack: {target: 30m}", "slots: 8")
    (array,) = make_arrays(profile, [Work(f"{n}", 1, 60.0, runs_per_gpu=4) for n in range(5)])
    assert (array.slots, array.shares) == (5, 2)
