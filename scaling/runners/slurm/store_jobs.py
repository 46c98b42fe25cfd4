"""The jobs of a store: which of its runs are in SLURM jobs of any launch, how the others ended, and cancelling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from scaling.errors import RunnerError
from scaling.results.jobs import HeldRun, JobState
from scaling.results.launches import same_sweep
from scaling.results.store import Store
from scaling.runners.scheduler import JobsView
from scaling.runners.slurm.queue import SlurmQueue, run_command
from scaling.runners.slurm.submissions import Submitted, all_submitted

SCANCEL_IDS = 500  # per call, far below the system's limit on a command line
_STUCK = "launch failed requeued held"  # a node failed to start the job: it stays so until somebody releases it


class StoreJobs:
    """What was submitted on one store, as SLURM sees it now."""

    def __init__(self, store: Path, queue: SlurmQueue) -> None:
        self.store, self.queue = store, queue

    def view(self, run_ids: set[str], *, launch: str) -> JobsView:
        """Which of these runs jobs hold, and how the last job of each other one ended."""
        store = Store(self.store)
        unfinished = {run_id for run_id in run_ids if not store.has_result(run_id)}
        held = self.held(unfinished)
        endings, goes_on = self.endings(unfinished - held.keys()), self.goes_on(launch)
        return JobsView(held, endings, self.queue.notes, goes_on)

    def held(self, run_ids: set[str]) -> dict[str, HeldRun]:
        """Which of the runs a job of any launch holds. A job of unknown state holds its runs; one that
        has seen a run fail does not try it again, and holds the others.
        """
        held: dict[str, HeldRun] = {}
        for submitted, job_id, state, task in self._elements(run_ids):
            if state.active is not False:
                waiting = (run_id for run_id in task if run_id in run_ids and not self._failed_in(run_id, job_id))
                stuck = state.reason == _STUCK
                held |= {run_id: HeldRun(submitted.launch, job_id, state, stuck) for run_id in waiting}
        return held

    def endings(self, run_ids: set[str]) -> dict[str, str]:
        """How the last job of each run ended, with the last line of its log; asks accounting once."""
        last = {run_id: (s, job_id) for s, job_id, _, task in self._elements(run_ids) for run_id in task}
        words = self.queue.endings(job_id for run_id, (_, job_id) in last.items() if run_id in run_ids)
        return {
            run_id: f"job {job_id} {words.get(job_id, 'ended').lower()}{_last_error(submitted, job_id)}"
            for run_id, (submitted, job_id) in last.items()
            if run_id in run_ids
        }

    def cancel(self, launch: str, run_ids: set[str]) -> tuple[list[str], dict[str, HeldRun]]:
        """Cancel the live jobs of every launch of the same sweep; those of other sweeps are only named.

        Returns:
            The ids of the cancelled jobs, and run id -> the foreign job that holds it.

        Raises:
            RunnerError: scancel failed.
        """
        own = [s for s in all_submitted(self.store) if s.job_id and same_sweep(s.launch, launch)]
        self.queue.poll(s.job_id for s in own if s.job_id)
        live = [s.job_id for s in reversed(own) if s.job_id and self.lives(s)]  # what waits for the others goes first
        for start in range(0, len(live), SCANCEL_IDS):
            answer = run_command(["scancel", *live[start : start + SCANCEL_IDS]])
            if answer.returncode != 0:
                raise RunnerError("scancel failed", got=answer.stderr.strip())
        self.queue.forget()
        return live, {r: h for r, h in self.held(run_ids).items() if not same_sweep(h.launch, launch)}

    def release(self, held: Iterable[HeldRun]) -> None:
        """Let the stuck jobs among `held` start again. Raises RunnerError."""
        for job_id in sorted({one.job_id for one in held if one.stuck}):
            answer = run_command(["scontrol", "release", job_id])
            if answer.returncode != 0:
                hint = f"scancel {job_id}, then launch again"
                raise RunnerError("SLURM holds a job and does not release it", got=answer.stderr.strip(), hint=hint)

    def recover(self) -> None:
        """Look up the jobs of submissions whose launcher died before it wrote the job id.

        Raises:
            RunnerError: the controller does not answer.
        """
        unknown = [submitted for submitted in all_submitted(self.store) if submitted.job_id is None]
        if not unknown:
            return
        live = self.queue.named(submitted.submission.name for submitted in unknown)
        if live is None:
            raise RunnerError("the SLURM controller does not answer", hint="try again; `sinfo` shows when it is back")
        for submitted in unknown:
            job_id = live.get(submitted.submission.name, "")
            if job_id and not submitted.complete(job_id):  # killed before submitit had put all its pickles in place
                run_command(["scancel", job_id])
                job_id = ""
            submitted.settle(job_id)

    def goes_on(self, launch: str) -> bool:
        """True where a job waits for the others of this launch, to run `scaling launch` again."""
        mine = [s for s in all_submitted(self.store) if s.launch == launch and s.job_id and not s.submission.tasks]
        return any(self.lives(submitted) for submitted in mine)

    def lives(self, submitted: Submitted) -> bool:
        """True while SLURM may still start or run a task of this submission."""
        states = [self.queue.state(job_id) for job_id in submitted.element_ids()]
        return any(state.active is not False and _is_ours(state, submitted) for state in states)

    def _failed_in(self, run_id: str, job_id: str) -> bool:
        newest = Store(self.store).newest(run_id)
        return newest is not None and newest.owner.job_id == job_id and newest.error() is not None

    def _elements(self, run_ids: set[str]) -> Iterator[tuple[Submitted, str, JobState, tuple[str, ...]]]:
        """Every array element that trains one of the runs, oldest first, by one query."""
        submissions = [s for s in all_submitted(self.store) if s.job_id and run_ids & s.submission.runs]
        self.queue.poll(submitted.job_id for submitted in submissions if submitted.job_id)
        for submitted in submissions:
            for job_id, task in zip(submitted.element_ids(), submitted.submission.tasks, strict=True):
                state = self.queue.state(job_id)
                yield submitted, job_id, state if _is_ours(state, submitted) else JobState("ENDED", False), task


def _is_ours(state: JobState, submitted: Submitted) -> bool:
    """False where the cluster was set up anew and gave the same id to another job."""
    return state.name in ("", submitted.submission.name)


def _last_error(submitted: Submitted, job_id: str) -> str:
    path = submitted.path.parent / f"{job_id}_0_log.err"
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return f": {lines[-1][:300]} ({path})" if lines else ""
