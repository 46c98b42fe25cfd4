"""Faults that a run must survive, on a real cluster, side by side. Each test ends with every run completed once and
with the loss of an undisturbed local run, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from box import CLUSTER, SMALL, Box, slurm_command, states, wait_until
from filelock import FileLock

from scaling.results.store import Store

pytestmark = pytest.mark.slurm

PROGRAM = """
import json, sys
from pathlib import Path
from scaling.results.store import Store
from scaling.runners.runner_file import load_runner
from scaling.runners.scheduler import Order, Work
from scaling.runners.slurm.scheduler import SlurmScheduler
runner, store, launch, corpus_hash, *runs = sys.argv[1:]
work = [Work(run, float(n), 3600.0) for n, run in enumerate(runs) if not Store(Path(store)).has_result(run)]
slurm = SlurmScheduler(load_runner(Path(runner)), Path(store), launch=launch)
print(json.dumps(slurm.submit(work, Order((), Path(), corpus_hash, "none")).submitted))
"""


def launcher(box: Box, runs, *, number: int = 1, environment: dict[str, str] | None = None):
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        box.folder / "runner.yaml",
        box.store.path,
        box.launch(number),
        box.corpus_hash,
    ]
    return subprocess.Popen(
        [*map(str, command), *(run.id for run in runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (environment or {}),
    )


def test_usr2_checkpoints_and_requeues(box: Box, runs) -> None:
    [run] = box.add(runs[:1])
    [job] = box.submit([run]).jobs
    box.wait_for_training(run)
    slurm_command("scancel", "--signal=USR2", job)
    box.wait_for_results([run])
    box.check([run])
    assert box.endings(run) == ["stopped", "completed"]
    owner = box.store.newest(run.id).owner
    assert (owner.job_id, owner.restart_count) == (job, 1)


def test_scontrol_requeue_in_mid_run(box: Box, runs) -> None:
    [run] = box.add(runs[:1])
    [job] = box.submit([run]).jobs
    box.wait_for_training(run)
    slurm_command("scontrol", "requeue", job)
    box.wait_for_results([run])
    box.check([run])
    assert box.store.newest(run.id).owner.restart_count == 1
    assert slurm_command("sacct", "-n", "-X", "-D", "-o", "State", "-j", job).split()[0] in ("REQUEUED", "CANCELLED+")


def test_one_task_cancelled_then_launched_again(box: Box, runs) -> None:
    first, second = box.add(runs[:2])
    [job] = box.submit([first, second]).jobs
    box.wait_for_training(first)
    slurm_command("scancel", box.store.newest(first.id).owner.job_id)
    wait_until(lambda: len(states(job)) <= 1, "the cancelled task is gone")
    assert box.endings(first) in (["stopped"], [None]), "a cancelled task may checkpoint; it does not come back"
    again = box.submit([first, second])
    ended_meanwhile = {second.id} if box.store.has_result(second.id) else set()
    assert {first.id} <= set(again.submitted) <= {first.id} | ended_meanwhile
    box.wait_for_results([first, second])
    box.check([first, second])
    assert box.endings(second) == ["completed"]


def test_a_node_is_set_down_with_a_job_on_it(box: Box, runs) -> None:
    [run] = box.add(runs[:1])
    [job] = box.submit([run], "sbatch: {exclude: 'node1,node2'}").jobs
    box.wait_for_training(run)
    node = slurm_command("squeue", "-h", "-o", "%N", "-j", job).strip()
    slurm_command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        box.wait_for_training(run, attempt=2)
        assert box.store.newest(run.id).owner.host != node
        assert run.id in box.slurm().poll({run.id}).held, "accounting says NODE_FAIL; the job runs again"
        box.wait_for_results([run])
        box.check([run])
    finally:
        slurm_command("scontrol", "update", f"nodename={node}", "state=resume")


def test_a_worker_is_killed(box: Box, runs) -> None:
    [run] = box.add(runs[:1])
    [job] = box.submit([run]).jobs
    box.wait_for_training(run)
    os.kill(box.store.newest(run.id).owner.pid, signal.SIGKILL)
    box.wait_for_results([run])
    box.check([run])
    owner = box.store.newest(run.id).owner
    assert box.endings(run) == [None, "completed"]
    assert (owner.job_id, owner.restart_count) == (job, 0), "the same task took the run over"


@pytest.mark.extra
@pytest.mark.parametrize("partition", ["low", "spare"])
def test_preempted_by_a_job_of_a_higher_partition(box: Box, runs, shared: Path, partition: str) -> None:
    """`low` warns and requeues; `spare` cancels without a warning, and the next launch continues."""
    lines = (f"partition: {partition}", "sbatch: {nodelist: node4, gres: 'gpu:2'}")  # where nobody else preempts it
    [run] = box.add(runs[:1])
    with FileLock(shared / "node4"):
        [job] = box.submit([run], *lines).jobs
        box.wait_for_training(run)
        place = ("--partition=main", "--nodelist=node4", "--gres=gpu:2", "--output=/dev/null")
        slurm_command("sbatch", *place, "--wrap=sleep 1")
        if partition == "spare":
            wait_until(lambda: not states(job), "the job is cancelled")
            assert slurm_command("sacct", "-n", "-X", "-o", "State", "-j", job).split() == ["PREEMPTED"]
            assert box.submit([run], *lines).submitted == (run.id,)
        box.wait_for_results([run])
    box.check([run])
    assert box.endings(run) == ["stopped", "completed"], "it has checkpointed"
    owner = box.store.newest(run.id).owner
    assert (owner.job_id == job) == (owner.restart_count > 0) == (partition == "low")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_launcher_is_killed_between_two_sbatch_calls(box: Box, short_runs, tmp_path: Path, moment: str) -> None:
    """A first `sbatch` in PATH passes on to the real one, and kills the launcher at its second call."""
    runs = box.add(short_runs)
    box.slurm("resources: [{max_params: 0.5}, {cpus: 2}]", "sbatch: {exclude: 'node3,node4'}")
    real = slurm_command("which", "sbatch").strip()
    kill = "kill -9 $PPID"
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.write_text(
        f'#!/bin/sh\nif mkdir {tmp_path}/once 2>/dev/null; then exec {real} "$@"; fi\n'
        + (f"{kill}\n" if moment == "before" else f'{real} "$@"\n{kill}\n')
    )
    wrapper.chmod(0o755)
    killed = launcher(box, runs, environment={"PATH": f"{wrapper.parent}:{os.environ['PATH']}"})
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    again = launcher(box, runs)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert runs[0].id not in out, "its array was submitted whole"
    box.wait_for_results(runs)
    box.check(runs)
    assert [box.endings(run) for run in runs] == [["completed"]] * 3


def test_two_launches_at_once(box: Box, short_runs) -> None:
    runs = box.add(short_runs)
    box.slurm()
    both = [launcher(box, runs, number=n) for n in (1, 2)]
    answers = [one.communicate() for one in both]
    assert [one.returncode for one in both] == [0, 0], answers
    box.wait_for_results(runs)
    box.check(runs)
    assert [box.endings(run) for run in runs] == [["completed"]] * 3


@pytest.mark.parametrize("trouble", ["read-only", "full"])
def test_the_store_is_away_for_a_while(box: Box, runs, trouble: str) -> None:
    [run] = runs[:1]
    place = SMALL / trouble
    assert place.is_mount(), "run.sh mounts it"
    small = Box.__new__(Box)
    small.__dict__.update(box.__dict__ | {"store": Store(place / "store")})
    small.store.path.mkdir(parents=True)
    (small.store.path / "data").symlink_to(box.reference.path / "data")
    # the logs of a running task stay open, and a file system with a file open for writing does not turn read-only
    (box.folder / "launches").mkdir()
    (small.store.path / "launches").symlink_to(box.folder / "launches")
    small.add([run])
    [job] = small.submit([run]).jobs
    small.wait_for_training(run)
    spoil(place, trouble)
    wait_until(lambda: not states(job), "the task has given up")
    restore(place, trouble)
    assert not small.store.has_result(run.id)
    assert small.submit([run]).submitted == (run.id,)
    small.wait_for_results([run])
    small.check([run])


def spoil(place: Path, trouble: str) -> None:
    if trouble == "read-only":
        wait_until(lambda: remount(place, "ro"), "no file is open for writing")
        return
    with (place / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def restore(place: Path, trouble: str) -> None:
    if trouble == "read-only":
        remount(place, "rw")
    else:
        (place / "filler").unlink()


def remount(place: Path, mode: str) -> bool:
    return subprocess.run(["mount", "-o", f"remount,{mode}", place], capture_output=True, check=False).returncode == 0


@pytest.mark.daemons
def test_slurmctld_is_killed_and_restarted(box: Box, runs) -> None:
    first, second = box.add(runs)
    jobs = box.submit([first, second]).jobs
    workers = []
    for run in runs:  # they stand still, so that neither ends while the controller's silence is looked at
        box.wait_for_training(run)
        workers.append(box.store.newest(run.id).owner.pid)
        os.kill(workers[-1], signal.SIGSTOP)
    time.sleep(3)  # a controller killed within seconds of a submission forgets the job (measured on 22.05)
    kill_daemon("slurmctld", signal.SIGKILL)
    try:
        step = box.step(first)
        os.kill(workers[0], signal.SIGCONT)
        wait_until(lambda: box.step(first) > step, "a run goes on without the controller")
        os.kill(workers[0], signal.SIGSTOP)
        slurm = box.slurm()
        view = slurm.poll({first.id, second.id})
        assert set(view.held) == {first.id, second.id}, "unknown is never failed"
        assert any("controller does not answer" in note for note in view.notes)
    finally:
        subprocess.run([CLUSTER, "start"], check=True, capture_output=True)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    assert set(states(jobs[0])) <= {"RUNNING", "COMPLETING"}
    box.wait_for_results([first, second])
    box.check([first, second])


@pytest.mark.daemons
def test_slurmdbd_is_down(box: Box, runs) -> None:
    [run] = box.add(runs[:1])
    kill_daemon("slurmdbd", signal.SIGTERM)
    try:
        [job] = box.submit([run]).jobs
        box.wait_for_training(run)
        slurm = box.slurm()
        owner = box.store.newest(run.id).owner
        assert owner.job.submitted, "a worker knows when its job was submitted"
        assert slurm.active(owner.job) is True
        slurm_command("scancel", job)
        wait_until(lambda: not states(job), "the job is gone")
        slurm.jobs.queue.forget()
        view = slurm.poll({run.id})
        assert view.endings[run.id].startswith(f"job {job} ended")
        assert any("accounting does not answer" in note for note in view.notes)
        box.submit([run])
    finally:
        subprocess.run([CLUSTER, "start"], check=True, capture_output=True)
    box.wait_for_results([run])
    box.check([run])


def kill_daemon(name: str, number: signal.Signals) -> None:
    from box import DIR

    pid = int((DIR / "pids" / name).read_text().split()[0])
    os.kill(pid, number)
    wait_until(
        lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text(), name
    )
