"""What runs inside a SLURM task: the pool of workers of `scaling.runners.pool`, and the requeue.

submitit calls `work` under `srun`, after installing a signal handler of its own that checkpoints in mid-step and
dead-locks with child processes (measured). Ours replaces it before anything is started: USR2 (SLURM's warning before
the time limit or a preemption), TERM and INT set a flag. Every process of the step receives the same signals, so the
workers checkpoint at their next step boundary and exit 75 by themselves. When they have, the task asks SLURM to run
it again and leaves by SystemExit, which submitit does not record as a result.

It asks only while SLURM says RUNNING: a job being cancelled or already requeued gets a TERM too, and a requeue would
start it again.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from scaling.errors import RunnerError
from scaling.results.owner import code_version
from scaling.results.store import Store
from scaling.runners.pool import LocalPool, WorkerDevice
from scaling.runners.scheduler import JobEnvironment, join_ranks
from scaling.runners.slurm.environment import job_environment, rank_count
from scaling.runners.slurm.queue import SlurmQueue, run_command
from scaling.runners.slurm.submissions import Submission, launch_folder
from scaling.runners.worker import EXIT_LEFT, EXIT_STOPPED, STOP_SIGNALS, StopFlag, WorkList, left_alone

CONTINUATION = "SCALING_CONTINUATION"  # set in the environment of a launch that a job started
POLL_SECONDS = 0.2
RANK_WAIT_SECONDS = 60.0  # a rank that leaves first would end rank 0 before it has asked for the requeue
REQUEUE_TRIES, REQUEUE_WAIT_SECONDS = 60, 5.0  # a controller that restarts is back within five minutes (assumption)


def work(store: str, launch: str, submission: str, task: int) -> None:
    """Train the runs of one task of a submission. This is the function that submitit pickles, with only these values.

    Raises:
        SystemExit: stopped before the end; SLURM was asked to run the task again, or ends it for another reason. Or
            runs are left, because workers outside of this task may be training them.
        RunnerError: a worker could not start.
    """
    stop = StopFlag()
    stop.install()  # in place of the handlers that submitit installed
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    folder = launch_folder(Path(store), launch)
    written = Submission.read(folder / f"{submission}.json")
    if written.code_version != code_version():
        say(f"the code changed after submission: {written.code_version} -> {code_version()}")
    environment = job_environment()
    assert environment is not None
    place = folder / "tasks" / f"{environment.job.id}.{environment.job.restart_count}"
    if rank_count() > 1:
        _work_as_rank(written, task, Store(Path(store)), place, environment, stop)
        return
    worklist = _worklist(written, written.tasks[task], Store(Path(store)))
    path = worklist.write(place / "worklist.json")
    pool = LocalPool(Path(store), path, devices=devices(written), log_folder=place, follow=False, scheduler="slurm")
    stopped = run_pool(pool, stop)
    if stopped and any(_open(Store(Path(store)), worklist)):
        raise SystemExit(requeue(environment.job.id))
    _refuse_leaving(Store(Path(store)), worklist)


def devices(written: Submission) -> list[WorkerDevice]:
    """The device of every worker of a packed task, GPU after GPU, as often as runs share one."""
    if written.device == "cpu":
        return [WorkerDevice("cpu")] * written.slots
    gpus = math.ceil(written.slots / written.runs_per_gpu)
    return [WorkerDevice(f"{written.device}:{n % gpus}") for n in range(written.slots)]


def _work_as_rank(
    written: Submission, task: int, store: Store, place: Path, environment: JobEnvironment, stop: Callable[[], bool]
) -> None:
    """One rank of several: a pool of one worker. Rank 0 asks for the requeue; the others wait for their end."""
    ranks = environment.ranks
    assert ranks is not None
    join_ranks(environment)
    place = place / f"rank-{ranks.rank}"
    worklist = _worklist(written, written.tasks[task], store)
    path = worklist.write(place / "worklist.json")
    device = "cpu" if written.device == "cpu" else f"{written.device}:{ranks.local_rank}"
    pool = LocalPool(
        store.path,
        path,
        devices=[WorkerDevice(device)],
        log_folder=place,
        follow=False,
        strategy=written.strategy,
        scheduler="slurm",
    )
    stopped = run_pool(pool, stop)
    if bad := [code for code in pool.wait() if code not in (0, EXIT_STOPPED, EXIT_LEFT)]:
        raise SystemExit(f"the worker of this rank ended with status {bad[0]}; see {place}")
    if stopped and any(_open(store, worklist)):
        if ranks.rank != 0:
            time.sleep(RANK_WAIT_SECONDS)
            raise SystemExit(EXIT_STOPPED)
        raise SystemExit(requeue(environment.job.id))
    if ranks.rank == 0:
        _refuse_leaving(store, worklist)


def _refuse_leaving(store: Store, worklist: WorkList) -> None:
    """End the job as failed where runs are left, with whose they are as its last line."""
    left = [run_id for run_id, is_open in zip(worklist.runs, _open(store, worklist), strict=True) if is_open]
    if left:
        more = f"; {len(left) - 1} more runs are left too" if len(left) > 1 else ""
        raise SystemExit(f"scaling: {left_alone(store, left[0])}{more}")


def go_on(command: list[str]) -> None:
    """Run `scaling launch` again after the jobs of a launch: the next stage, or collect, fit and report."""
    finished = subprocess.run(command, env=os.environ | {CONTINUATION: "1"}, check=False)
    if finished.returncode != 0:
        raise SystemExit(finished.returncode)  # its message is in the job's log; a traceback of ours would hide it


def run_pool(pool: LocalPool, stop: Callable[[], bool]) -> bool:
    """Run the pool to its end; True where it was stopped before it had done its list."""
    with blocked_signals():
        pool.submit()
    cancelled = False
    while True:
        with blocked_signals():  # the pool may start a worker again here
            working = pool.poll()
        if stop() and not cancelled:
            pool.cancel()
            cancelled = True
        if not working:
            break
        time.sleep(POLL_SECONDS)
    if failures := pool.failures():
        raise RunnerError("a worker could not work", got="; ".join(failures))
    return cancelled or pool.stopped()


def requeue(job_id: str, *, queue: SlurmQueue | None = None, sleep: Callable[[float], None] = time.sleep) -> int:
    """Ask SLURM to run this job again, unless it is cancelling or requeueing it; the exit status to leave with."""
    queue = queue or SlurmQueue()
    for _ in range(REQUEUE_TRIES):
        queue.forget()
        state = queue.state(job_id)
        if state.active is not None and state.state != "RUNNING":
            say(f"stopped; SLURM says {state}, so it is not asked to run job {job_id} again")
            return EXIT_STOPPED
        answer = run_command(["scontrol", "requeue", job_id])
        if answer.returncode == 0:
            say(f"checkpointed; SLURM will run job {job_id} again")
            return EXIT_STOPPED
        say(f"scontrol requeue {job_id}: {answer.stderr.strip()}")
        sleep(REQUEUE_WAIT_SECONDS)
    say("this cluster does not requeue the job; `scaling launch` continues from the checkpoint")
    return EXIT_STOPPED


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Children started here begin with the stop signals blocked: one that arrives early waits for their handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def say(message: str) -> None:
    """One line for the task's log."""
    print(f"scaling: {message}", flush=True)  # noqa: T201


def _worklist(written: Submission, runs: tuple[str, ...], store: Store) -> WorkList:
    """The list for this start of the task. Attempts that SLURM ended (a node lost, a requeue) are not the run's fault
    and are not counted; one that failed with an error is, so that a requeue does not try it again.
    """
    attempts = {}
    for run_id in runs:
        newest = store.newest(run_id)
        failed = newest is not None and newest.error() is not None
        attempts[run_id] = written.attempts[run_id] if failed or newest is None else newest.number
    keep: Literal["weights", "none"] = "none" if written.keep == "none" else "weights"
    parts = dict.fromkeys(runs, written.micro_batch) if written.micro_batch else {}
    return WorkList(
        written.corpus_hash,
        runs,
        attempts,
        keep,
        written.code_version,
        written.memory_bytes,
        parts,
        written.runs_per_gpu,
    )


def _open(store: Store, worklist: WorkList) -> Iterator[bool]:
    for run_id in worklist.runs:
        yield not store.has_result(run_id) and not worklist.spent(run_id, store.newest(run_id))
