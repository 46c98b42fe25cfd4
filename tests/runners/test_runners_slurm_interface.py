"""SLURM as a scheduler: dependencies in a dry run, the job that a process is in, and jobs that 0.1 has queued."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.data.shards import prepare
from scaling.results.jobs import JobRef
from scaling.results.owner import Owner
from scaling.runners.scheduler import Order, Ranks, Work, current_job
from scaling.runners.slurm import task
from scaling.runners.slurm.scheduler import SlurmScheduler

pytest_plugins = ("slurm_fixtures",)

ORDER = Order((), Path(), "c0ffee", "none")
JOB = {"SLURM_JOB_ID": "105", "SLURM_ARRAY_JOB_ID": "101", "SLURM_ARRAY_TASK_ID": "2", "SLURM_RESTART_COUNT": "1"}


def work(count: int) -> list[Work]:
    return [Work(f"{n:016x}", 1e5, 60.0) for n in range(count)]


@pytest.fixture
def cluster(slurm, slurm_profile, empty_store) -> SlurmScheduler:
    return SlurmScheduler(slurm_profile("max_concurrent: 1"), empty_store.path, launch="grid-1-abcd")


@pytest.mark.parametrize("before", [0, 3])
def test_a_dry_run_names_the_dependency_that_is_submitted(slurm, cluster, before) -> None:
    """Also where the launch has submissions already, whose runs it leaves alone."""
    if before:
        cluster.submit(work(before), ORDER)
    texts = cluster.scripts(work(before + 14), ORDER)
    assert [len(re.findall(r"afterany:JOB_OF_", text)) for text in texts] == [0, 1, 1]
    outcome = cluster.submit(work(before + 14), ORDER)
    ids = {f"JOB_OF_{slurm.jobs()[job]['name']}": job for job in outcome.jobs}
    submitted = [slurm.text(job) for job in outcome.jobs]
    assert [re.sub(r"JOB_OF_[\w.-]+", lambda name: ids[name[0]], text) for text in texts] == submitted


def test_a_dry_run_asks_nothing_of_a_cluster_that_is_not_there(cluster, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert len(cluster.scripts(work(3), ORDER)) == 1


def test_a_process_in_a_job_knows_which_and_asks_once_when_it_was_submitted(slurm, cluster, monkeypatch) -> None:
    cluster.submit(work(3), ORDER)
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SCALING_JOB_SUBMITTED", "")
    asked = len(slurm.calls("squeue"))
    found = [current_job() for _ in range(3)]
    assert {one.job for one in found} == {JobRef("101_2", "1800000101", 1)}
    assert len(slurm.calls("squeue")) == asked + 1
    assert Owner.current(job=found[0].job).job == found[0].job
    assert found[0].active(JobRef("101_2", "1800000101")) is True
    assert found[0].active(JobRef("101_2", "1700000000")) is False, "the id of a cluster that was set up anew"
    assert found[0].ranks is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert current_job().job.restart_count == 2
    assert len([call for call in slurm.calls("squeue") if "%V" in call]) == 2, "a requeue has a submit time of its own"


def test_ranks_of_a_step_meet_on_its_first_node(slurm, monkeypatch) -> None:
    step = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_NODELIST": "gpu7"}
    for name, value in (JOB | step).items():
        monkeypatch.setenv(name, value)
    assert current_job("slurm").ranks == Ranks(3, 4, 1, "gpu7", 20_105)


def test_a_controller_that_does_not_answer_leaves_the_submit_time_open(slurm, monkeypatch) -> None:
    slurm.switch("down")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SCALING_JOB_SUBMITTED", "")
    assert current_job().job == JobRef("7")


def test_what_0_1_has_queued_still_starts() -> None:
    assert pickle.loads(b"cscaling.runners.slurm_task\nwork\n.") is task.work
    assert pickle.loads(b"cscaling.runners.slurm_task\ngo_on\n.") is task.go_on
    command = [sys.executable, "-P", "-m", "scaling.runners.job", "--help"]
    assert "--runs" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_two_ranks_of_a_step_train_one_run(slurm, cluster, empty_store, tiny_run, tmp_path) -> None:
    """Two tasks as srun would start them; the fake `scontrol` knows no hosts, so they meet where the node list says."""
    run = tiny_run(steps=6)
    data = prepare(run.data, root=tmp_path, store=empty_store.path)
    empty_store.add(run)
    cluster.submit([Work(run.id, 1.0, 1.0)], replace(ORDER, corpus_hash=data.hash))
    step = {"SLURM_JOB_ID": "101", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "localhost"}
    program = "from scaling.runners.slurm.task import work; import sys; work(*sys.argv[1:4], 0)"
    command = [sys.executable, "-P", "-c", program, str(empty_store.path), "grid-1-abcd", "01"]
    ranks = [
        subprocess.Popen(command, env=os.environ | step | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank})
        for rank in ("0", "1")
    ]
    assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    assert empty_store.result(run.id).status == "completed"
    newest = empty_store.newest(run.id)
    assert (newest.number, newest.owner.job) == (1, JobRef("101", "1800000101", 0))
