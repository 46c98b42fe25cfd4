"""The task on a node: what it does with signals, and when it asks SLURM to run it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from scaling.data.shards import prepare
from scaling.results.store import Store
from scaling.runners.pool import LocalPool, WorkerDevice
from scaling.runners.scheduler import Order, Work
from scaling.runners.slurm.scheduler import SlurmScheduler
from scaling.runners.slurm.task import blocked_signals, requeue
from scaling.runners.worker import EXIT_STOPPED, WorkList

pytest_plugins = ("slurm_fixtures",)

ORDER = Order((), Path(), "", "none")
PROGRAM = "import sys; from scaling.runners.slurm.task import work; work(*sys.argv[1:4], int(sys.argv[4]))"


@pytest.mark.parametrize(
    ("state", "asked"),
    [("RUNNING", 1), ("COMPLETING", 0), ("PENDING", 0), ("CANCELLED", 0), ("FORGOTTEN", 0), ("NEW_WORD", 1)],
)
def test_only_a_running_job_is_run_again(slurm, slurm_profile, empty_store, state, asked):
    """A job being cancelled or already requeued gets a TERM too; asking would raise it from the dead."""
    runner = SlurmScheduler(slurm_profile(), empty_store.path, launch="a-1-abcd")
    [job] = runner.submit([Work("0" * 16, 1.0, 1.0)], ORDER).jobs
    slurm.set(job, state=state)
    assert requeue(job, sleep=pytest.fail) == EXIT_STOPPED
    assert slurm.calls("scontrol").count(["requeue", job]) == asked


def test_a_controller_that_is_away_is_asked_until_it_is_back(slurm, slurm_profile, empty_store):
    runner = SlurmScheduler(slurm_profile(), empty_store.path, launch="a-1-abcd")
    [job] = runner.submit([Work("0" * 16, 1.0, 1.0)], ORDER).jobs
    slurm.set(job, state="RUNNING")
    slurm.switch("down")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            (slurm.folder / "down").unlink()

    assert requeue(job, sleep=sleep) == EXIT_STOPPED
    assert len(waits) == 3
    assert slurm.calls("scontrol")[-1] == ["requeue", job]


def test_a_signal_stops_the_task_at_a_checkpoint(slurm, slurm_profile, empty_store, tiny_run, tmp_path):
    """SLURM signals every process of a step."""
    run = tiny_run(steps=1_000_000)
    data = prepare(run.data, root=tmp_path, store=empty_store.path)
    empty_store.add(run)
    runner = SlurmScheduler(slurm_profile(), empty_store.path, launch="a-1-abcd")
    [job] = runner.submit([Work(run.id, 1.0, 1.0)], replace(ORDER, corpus_hash=data.hash)).jobs
    slurm.set(job, state="RUNNING")
    task = start_task(empty_store, job)
    wait_until(lambda: (newest := empty_store.newest(run.id)) and newest.last_record().get("step", 0) > 0)
    os.killpg(task.pid, signal.SIGUSR2)
    assert task.wait(timeout=60) == EXIT_STOPPED
    assert slurm.calls("scontrol").count(["requeue", job]) == 1
    newest = empty_store.newest(run.id)
    assert newest.last_record()["event"] == "stopped"
    assert newest.last_record()["step"] > 0
    assert (newest.owner.job_id, newest.owner.restart_count) == (job, 1)


def test_a_signal_that_comes_while_a_worker_starts_is_not_lost(empty_store, tmp_path):
    worklist = WorkList("c0ffee", ("0" * 16,), {"0" * 16: 0}).write(tmp_path / "worklist.json")
    pool = LocalPool(empty_store.path, worklist, devices=[WorkerDevice("cpu")], log_folder=tmp_path)
    with blocked_signals():
        pool.submit()
    [worker] = [child for child in psutil.Process().children() if str(worklist) in child.cmdline()]
    worker.send_signal(signal.SIGUSR2)
    assert pool.wait() == [EXIT_STOPPED]


def start_task(store: Store, job: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"SLURM_JOB_ID": job, "SLURM_RESTART_COUNT": "1"}
    command = [sys.executable, "-P", "-c", PROGRAM, str(store.path), "a-1-abcd", "01", "0"]
    return subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_list_of_a_restart_forgives_lost_workers_and_not_errors(empty_store, tiny_run):
    from scaling.results.owner import Owner
    from scaling.runners.slurm.submissions import Submission
    from scaling.runners.slurm.task import _worklist

    lost, failed, fresh = (tiny_run(seed=seed) for seed in range(3))
    for run in (lost, failed, fresh):
        empty_store.add(run)
    empty_store.claim(lost.id, Owner.current())
    empty_store.claim(failed.id, Owner.current()).fail("ValueError", "Traceback")
    runs = tuple(run.id for run in (lost, failed, fresh))
    written = Submission("a", "v", (runs,), dict.fromkeys(runs, 0))
    worklist = _worklist(written, runs, empty_store)
    assert worklist.attempts == {lost.id: 1, failed.id: 0, fresh.id: 0}
    assert worklist.spent(failed.id, empty_store.newest(failed.id))
    assert not worklist.spent(lost.id, empty_store.newest(lost.id))
