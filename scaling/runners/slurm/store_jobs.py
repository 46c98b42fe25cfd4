"""The jobs of a store: which of its runs are in SLURM jobs of any launch, how the others ended, and cancelling."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from scaling.errors import RunnerError
from scaling.results.jobs import HeldRun, JobRef, JobState
from scaling.results.launches import same_sweep
from scaling.results.store import Store
from scaling.runners.scheduler import JobsView
from scaling.runners.slurm.arrays import Chain
from scaling.runners.slurm.environment import CLUSTER_NAME
from scaling.runners.slurm.queue import UNKNOWN, SlurmQueue, run_command
from scaling.runners.slurm.submissions import Submitted, all_submitted, damaged_submissions

SCANCEL_IDS = 500  # per call, far below the system's limit on a command line
_STUCK = "launch failed requeued held"  # a node failed to start the job: it stays so until somebody releases it


class StoreJobs:
    """What was submitted on one store, as SLURM sees it now."""

    def __init__(self, store: Path, queue: SlurmQueue) -> None:
        self.store, self.queue = store, queue
        self._others: dict[str, SlurmQueue] = {}
        self._clusters: set[str] = set()  # that sbatch named

    def queue_of(self, cluster: str) -> SlurmQueue:
        """Who answers for a cluster; empty: the one that squeue asks by itself. An id says nothing without it."""
        if not cluster:
            return self.queue
        return self._others.setdefault(cluster, SlurmQueue(cluster=cluster))

    @property
    def _away(self) -> bool:
        """True in a job of a cluster that sbatch named: there squeue asks that one by itself."""
        return os.environ.get(CLUSTER_NAME) in self._clusters

    @property
    def notes(self) -> tuple[str, ...]:
        """Which part of SLURM did not answer, and which submissions are damaged."""
        notes = [note for queue in (self.queue, *self._others.values()) for note in queue.notes]
        return (*notes, *damaged_submissions(self.store).values())

    def view(self, run_ids: set[str], *, launch: str) -> JobsView:
        """Which of these runs jobs hold, and how the last job of each other one ended."""
        store = Store(self.store)
        unfinished = {run_id for run_id in run_ids if not store.has_result(run_id)}
        held = self.held(unfinished)
        endings, goes_on = self.endings(unfinished - held.keys()), self.goes_on(launch)
        return JobsView(held, endings, self.notes, goes_on)

    def held(self, run_ids: set[str]) -> dict[str, HeldRun]:
        """Which of the runs a job of any launch holds. A job of unknown state holds its runs; one that
        has seen a run fail does not try it again, and holds the others.
        """
        held: dict[str, HeldRun] = {}
        for submitted, job_id, state, task in self._elements(run_ids):
            if state.active is not False:
                waiting = (run_id for run_id in task if run_id in run_ids and not self._failed_in(run_id, job_id))
                started = state.state != "RUNNING" or self._has_worked(task, job_id)
                one = HeldRun(submitted.launch, job_id, state, state.reason == _STUCK, started, submitted.cluster)
                held |= dict.fromkeys(waiting, one)
        return held

    def endings(self, run_ids: set[str]) -> dict[str, str]:
        """How the last job of each run ended, with the last line of its log; asks accounting once."""
        last = {run_id: (s, job_id) for s, job_id, _, task in self._elements(run_ids) for run_id in task}
        ids: dict[str, list[str]] = {}
        for run_id in last.keys() & run_ids:
            ids.setdefault(last[run_id][0].cluster, []).append(last[run_id][1])
        words = {(one, job): word for one in ids for job, word in self.queue_of(one).endings(ids[one]).items()}
        return {
            run_id: f"job {job} {words.get((submitted.cluster, job), 'ended').lower()}{_last_error(submitted, job)}"
            for run_id, (submitted, job) in last.items()
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
        self._poll(own)
        live: dict[str, list[str]] = {}  # cluster -> jobs; what waits for the others goes first
        for submitted in reversed(own):
            if submitted.job_id and self.lives(submitted):
                live.setdefault(submitted.cluster, []).append(submitted.job_id)
        for cluster, jobs in live.items():
            queue = self.queue_of(cluster)
            for start in range(0, len(jobs), SCANCEL_IDS):
                answer = run_command(queue.command("scancel", *jobs[start : start + SCANCEL_IDS]))
                if answer.returncode != 0:
                    raise RunnerError("scancel failed", got=answer.stderr.strip())
            queue.forget()
        return [job for jobs in live.values() for job in jobs], {
            r: h for r, h in self.held(run_ids).items() if not same_sweep(h.launch, launch)
        }

    def release(self, held: Iterable[HeldRun]) -> None:
        """Let the stuck jobs among `held` start again. Raises RunnerError."""
        for cluster, job_id in sorted({(one.cluster, one.job_id) for one in held if one.stuck}):
            answer = run_command(self.queue_of(cluster).command("scontrol", "release", job_id))
            if answer.returncode != 0:
                hint = f"scancel {job_id}, then launch again"
                raise RunnerError("SLURM holds a job and does not release it", got=answer.stderr.strip(), hint=hint)

    def recover(self) -> None:
        """Look up the jobs of submissions whose launcher died, or heard nothing, before it wrote the job id.

        Raises:
            RunnerError: the controller does not answer.
        """
        unknown = [submitted for submitted in all_submitted(self.store) if submitted.job_id is None]
        for clusters in {submitted.submission.clusters for submitted in unknown}:
            mine = [submitted for submitted in unknown if submitted.submission.clusters == clusters]
            live = self.named([submitted.submission.name for submitted in mine], clusters)
            for submitted in mine:
                job_id, cluster = live.get(submitted.submission.name, ("", ""))
                if job_id and not submitted.place(job_id):  # killed before all that it starts was written
                    run_command(self.queue_of(cluster).command("scancel", job_id))
                    job_id = ""
                submitted.settle(job_id, cluster)

    def named(self, names: list[str], clusters: str) -> dict[str, tuple[str, str]]:
        """Job name -> id and cluster of the live jobs with these names.

        Args:
            names: of jobs.
            clusters: where sbatch may have put them, ``a,b``; empty: there is only one.

        Raises:
            RunnerError: a controller does not answer.
        """
        jobs: dict[str, tuple[str, str]] = {}
        for cluster in clusters.split(","):
            live = self.queue_of(cluster).named(names)
            if live is None:
                hint = "launch again: it is looked up by its name; `sinfo` shows when SLURM is back"
                what = "the SLURM controller does not answer, so whether it has a job is not known"
                raise RunnerError(what, where=", ".join(names), hint=hint)
            jobs |= {name: (job_id, cluster) for name, job_id in live.items()}
        return jobs

    def active(self, job: JobRef) -> bool | None:
        """Whether SLURM still holds a job; None where another cluster has it, and nobody here can ask that one."""
        if job.cluster in self._clusters:
            return self.queue_of(job.cluster).active(job)
        return None if self._away else self.queue.active(job)

    def chains(self, launch: str) -> list[Chain]:
        """The live arrays of this sweep, as they wait for each other."""
        store = Store(self.store)
        mine = [
            s
            for s in all_submitted(self.store)
            if s.job_id and same_sweep(s.launch, launch) and not all(map(store.has_result, s.submission.runs))
        ]
        self._poll(mine)
        chains: dict[str, Chain] = {}  # last job -> the chain
        for submitted in mine:
            tasks = sum(self._state(submitted, element).active is not False for element in submitted.element_ids())
            if tasks and submitted.job_id:
                share = min(submitted.submission.parallelism or tasks, tasks)
                before = chains.pop(submitted.submission.after, None)
                chains[submitted.job_id] = Chain(submitted.job_id, max(share, before.share if before else 0))
        return list(chains.values())

    def goes_on(self, launch: str) -> bool:
        """True where a job waits for the others of this launch, to run `scaling launch` again."""
        mine = [s for s in all_submitted(self.store) if s.launch == launch and s.job_id and not s.submission.tasks]
        return any(self.lives(submitted) for submitted in mine)

    def lives(self, submitted: Submitted) -> bool:
        """True while SLURM may still start or run a task of this submission."""
        return any(self._state(submitted, element).active is not False for element in submitted.element_ids())

    def _state(self, submitted: Submitted, element: str) -> JobState:
        """Of an array element; ended where the cluster was set up anew and gave the same id to another job."""
        if not submitted.cluster and self._away:
            return UNKNOWN
        state = self.queue_of(submitted.cluster).state(element)
        return state if state.name in ("", submitted.submission.name) else JobState("ENDED", False)

    def _poll(self, submissions: Iterable[Submitted]) -> None:
        """Ask about all their elements, each cluster once."""
        ids: dict[str, list[str]] = {}
        for submitted in submissions:
            ids.setdefault(submitted.cluster, []).extend(submitted.element_ids())
        self._clusters |= ids.keys() - {""}
        for cluster, elements in ids.items():
            self.queue_of(cluster).poll(elements)

    def _has_worked(self, task: tuple[str, ...], job_id: str) -> bool:
        store = Store(self.store)
        newest = (store.newest(run_id) for run_id in task)
        return any(attempt is not None and attempt.owner.job_id == job_id for attempt in newest)

    def _failed_in(self, run_id: str, job_id: str) -> bool:
        newest = Store(self.store).newest(run_id)
        return newest is not None and newest.owner.job_id == job_id and newest.error() is not None

    def _elements(self, run_ids: set[str]) -> Iterator[tuple[Submitted, str, JobState, tuple[str, ...]]]:
        """Every array element that trains one of the runs, oldest first, by one query."""
        submissions = [s for s in all_submitted(self.store) if s.job_id and run_ids & s.submission.runs]
        self._poll(submissions)
        for submitted in submissions:
            for job_id, task in zip(submitted.element_ids(), submitted.submission.tasks, strict=True):
                yield submitted, job_id, self._state(submitted, job_id), task


def _last_error(submitted: Submitted, job_id: str) -> str:
    path = submitted.path.parent / f"{job_id}_0_log.err"
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return f": {lines[-1][:300]} ({path})" if lines else ""
