"""SLURM as a scheduler: submit job arrays (`slurm.store_jobs` asks what holds a run, and cancels).

submitit writes the sbatch text and the pickles (`slurm.sbatch`) and starts the tasks under `srun`; a pickle holds the
call `slurm_task.work(store, launch, submission, task)` and nothing else. Nothing keeps running on the login node. While
submitting, a launch holds the store's launch lock, leaves every run alone that a job of any launch on this store
holds, and writes each intention before its sbatch call (`scaling.runners.slurm.submissions`), so that it may be killed
anywhere and started again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scaling.errors import RunnerError
from scaling.locks import hold
from scaling.results.jobs import HeldRun, JobRef
from scaling.results.owner import code_version
from scaling.results.store import Store
from scaling.runners.scheduler import Cancelled, JobEnvironment, JobsView, Order, Outcome, Scheduler, Work
from scaling.runners.slurm import preflight, sbatch
from scaling.runners.slurm import task as slurm_task
from scaling.runners.slurm.arrays import DEFAULT_MAX_ARRAY_SIZE, Array, make_arrays
from scaling.runners.slurm.environment import job_environment
from scaling.runners.slurm.queue import SlurmQueue, run_command
from scaling.runners.slurm.sbatch import SubmissionRefused
from scaling.runners.slurm.script import (
    array_parameters,
    check_folder,
    check_runner,
    clusters_of,
    continuation_parameters,
)
from scaling.runners.slurm.store_jobs import StoreJobs
from scaling.runners.slurm.submissions import (
    Submission,
    Submitted,
    all_submitted,
    launch_folder,
    set_aside_submissions,
)

if TYPE_CHECKING:
    from scaling.runners.runner_file import Runner

LOCK_SECONDS = 300.0  # another launch on this store prepares data and submits at most about this long
MAX_UNATTENDED_ATTEMPTS = 10  # assumption: a run that was lost this often is left to the user


class _Held(NamedTuple):
    """Runs that jobs hold, and the arrays of the others."""

    held: dict[str, HeldRun]
    free: list[Work]


class SlurmScheduler(Scheduler):
    """The cluster of one runner file, for one launch on one store.

    Raises:
        SpecError: the runner file has no time limit, or a value that sbatch would misread.
        RunnerError: SLURM could not write logs below this store.
    """

    keys = frozenset(
        {"slots", "runs_per_gpu", "partition", "resources", "time_limit", "pack", "max_concurrent", "setup", "sbatch"}
        | {"srun_args"}
    )
    programs = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun")

    def __init__(
        self,
        runner: Runner,
        store: Path,
        *,
        launch: str,
        folder: Path | None = None,
        where: str = "the runner file",
        queue: SlurmQueue | None = None,
    ) -> None:
        store = store.resolve()
        folder = launch_folder(store, launch)  # in the store, because every launch on it must see the jobs
        super().__init__(runner, store, launch=launch, folder=folder, where=where)
        self.jobs = StoreJobs(self.store, queue or SlurmQueue())
        check_runner(runner, where=where)
        check_folder(self.store)

    def scripts(self, work: Sequence[Work], order: Order) -> list[str]:
        """The sbatch texts that `submit` would submit now. The id of a job that is not there yet is written
        ``JOB_OF_<its name>``.
        """
        first = self._next_number()
        free = self._divide(work).free
        arrays = self._arrays(free, self._max_array_size(default=DEFAULT_MAX_ARRAY_SIZE)) if free else []
        return [self._script(array, number=first + place, first=first) for place, array in enumerate(arrays)]

    def samples(self, work: Sequence[Work]) -> list[str]:
        """The text of one array per kind of resources, for ``sbatch --test-only``."""
        kinds: dict[Any, Array] = {}
        for array in make_arrays(self.runner, work):
            kinds.setdefault((array.resources, array.slots, array.runs_per_gpu), array)
        return [self._script(array, number=0, first=0) for array in kinds.values() if array.after is None]

    def submit(self, work: Sequence[Work], order: Order) -> Outcome:
        """Submit every run of `work` that no job holds.

        Args:
            work: runs without a result.
            order: the launch; `worker` and `worklist` are not used, since a task has a list of its own.

        Raises:
            RunnerError: SLURM does not answer, or refuses the first job. Jobs submitted before that stay, and are found
                again.
        """
        with self._locked():
            messages = set_aside_submissions(self.store)
            self.jobs.recover()
            held, free = self._divide(work)
            self.jobs.release(held.values())
            own = {h.job_id.partition("_")[0] for h in held.values() if h.launch == self.launch}
            jobs, submitted, refusal = self._submit_arrays(free, order)
            if refusal is not None and not jobs and not own:
                raise refusal
            goes_on = bool(order.continuation) and self.jobs.goes_on(self.launch)
            if order.continuation and (jobs or (own and not goes_on)):
                try:
                    jobs.append(self._submit_continuation(order.continuation, sorted(own | set(jobs), key=int)))
                    goes_on = True
                except SubmissionRefused as error:
                    refusal, goes_on = refusal or error, False
            if refusal is not None:
                messages.append(_refusal(refusal, left=len(free) - len(submitted), goes_on=goes_on))
        taken = tuple(run.run_id for run in free if run.run_id in submitted)
        return Outcome(taken, held, tuple(jobs), self.runner.max_concurrent, tuple(messages))

    def poll(self, run_ids: set[str]) -> JobsView:
        """What SLURM says of the jobs that hold these runs, by one query every few seconds."""
        return self.jobs.view(run_ids, launch=self.launch)

    def active(self, job: JobRef) -> bool | None:
        """Whether SLURM still holds `job`."""
        return self.jobs.active(job)

    def cancel(self, run_ids: set[str]) -> Cancelled:
        """Cancel the live jobs of every launch of this sweep on this store."""
        jobs, foreign = self.jobs.cancel(self.launch, run_ids)
        messages = (
            [f"cancelled {len(jobs)} jobs ({', '.join(jobs)}); their runs checkpoint at their next step"]
            if jobs
            else []
        )
        for run_id, held in foreign.items():
            whose = f"job {held.job_id} of launch {held.launch}, which is not this sweep's"
            messages.append(f"run {run_id} is still trained by {whose}")
        return Cancelled(tuple(jobs), tuple(messages))

    @classmethod
    def environment(cls) -> JobEnvironment | None:
        """The SLURM job that this process runs in."""
        return job_environment()

    def check(self, work: Sequence[Work]) -> None:
        """Refuse what this cluster will not run. Raises RunnerError."""
        preflight.check_cluster(self.runner, self.samples(work), where=self.where)

    def check_store(self) -> str | None:
        """Refuse a store that the nodes do not see; a warning where no node was free to check it."""
        return preflight.check_shared(self.runner, self.store, where=self.where)

    def logs(self, job: JobRef) -> list[Path]:
        """What submitit's processes wrote."""
        return sorted((self.store / "launches").glob(f"*/{job.id}_*_log.*"))

    def diagnose(self) -> dict[str, object]:
        """What the cluster and a probe job say."""
        return preflight.diagnose(self.runner, self.store, where=self.where)

    def _divide(self, work: Sequence[Work]) -> _Held:
        held = self.jobs.held({run.run_id for run in work})
        free = [run for run in work if run.run_id not in held]
        if slurm_task.CONTINUATION in os.environ:
            before = self._submitted_before()
            free = [run for run in free if self._worth_it(run.run_id, before.get(run.run_id))]
        return _Held(held, free)

    def _arrays(self, free: Sequence[Work], size: int) -> list[Array]:
        """The arrays of these runs, at most so many tasks at a time as earlier launches leave."""
        chains = self.jobs.chains(self.launch) if self.runner.max_concurrent else []
        return make_arrays(self.runner, free, max_array_size=size, chains=chains)

    def _submit_arrays(
        self, free: Sequence[Work], order: Order
    ) -> tuple[list[str], set[str], SubmissionRefused | None]:
        """Submit until SLURM refuses; the jobs, their runs, and the refusal."""
        jobs: list[str] = []
        submitted: set[str] = set()
        for array in self._arrays(free, self._max_array_size()) if free else []:
            try:
                jobs.append(self._submit_array(array, self._after(array, jobs), order))
            except SubmissionRefused as error:
                return jobs, submitted, error
            submitted.update(array.run_ids)
        return jobs, submitted, None

    def _after(self, array: Array, jobs: Sequence[str]) -> str | None:
        return array.after_job if array.after is None else jobs[array.after]

    def _submit_array(self, array: Array, after: str | None, order: Order) -> str:
        newest = {run_id: Store(self.store).newest(run_id) for run_id in array.run_ids}
        number = self._next_number()
        submission = Submission(
            name=self._name(number),
            tasks=tuple(task.runs for task in array.tasks),
            slots=array.slots,
            runs_per_gpu=array.runs_per_gpu,
            device="cuda" if array.resources.gpus else "cpu",
            strategy=array.resources.strategy,
            attempts={run_id: attempt.number if attempt else 0 for run_id, attempt in newest.items()},
            corpus_hash=order.corpus_hash,
            keep=order.keep,
            memory_bytes=self.runner.hardware().memory_bytes,
            micro_batch=array.resources.micro_batch,
            code_version=code_version(),
            clusters=clusters_of(self.runner),
            parallelism=array.parallelism,
            after=after or "",
        )
        calls = [(str(self.store), self.launch, f"{number:02d}", task) for task in range(len(array.tasks))]
        parameters = array_parameters(self.runner, array, name=submission.name, after=after)
        return self._sbatch(number, submission, parameters, slurm_task.work, calls)

    def _submit_continuation(self, command: Sequence[str], after: list[str]) -> str:
        number = self._next_number()
        clusters = clusters_of(self.runner)
        submission = Submission(name=self._name(number), code_version=code_version(), clusters=clusters)
        parameters = continuation_parameters(self.runner, name=submission.name, after=after)
        return self._sbatch(number, submission, parameters, slurm_task.go_on, [(list(command),)])

    def _sbatch(
        self, number: int, submission: Submission, parameters: Mapping[str, Any], function: Any, calls: list[Any]
    ) -> str:
        submitted = Submitted(self.folder / f"{number:02d}.json", submission, None)
        submission.write(submitted.path)
        return sbatch.submit(submitted, sbatch.make_executor(self.folder, parameters), function, calls, self.jobs)

    def _script(self, array: Array, *, number: int, first: int) -> str:
        after = array.after_job if array.after is None else f"JOB_OF_{self._name(first + array.after)}"
        parameters = array_parameters(self.runner, array, name=self._name(number), after=after)
        return sbatch.submission_text(sbatch.make_executor(self.folder, parameters), tasks=len(array.tasks))

    def _submitted_before(self) -> dict[str, int]:
        """Run id -> its newest attempt when SLURM last took it, over all launches on this store."""
        before: dict[str, int] = {}
        for submitted in all_submitted(self.store):
            for run_id, attempt in submitted.submission.attempts.items() if submitted.job_id != "" else ():
                before[run_id] = max(attempt, before.get(run_id, 0))
        return before

    def _worth_it(self, run_id: str, before: int | None) -> bool:
        """Whether to try a run again where nobody watches: not one that failed, or never got to a worker.

        Args:
            run_id: of a run that no job holds.
            before: its newest attempt when it was last submitted; None where it never was.
        """
        newest = Store(self.store).newest(run_id)
        if newest is None or before is None:
            return before is None
        return before < newest.number < MAX_UNATTENDED_ATTEMPTS and newest.error() is None

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return hold(self.store / ".launch.lock", timeout_s=LOCK_SECONDS, what="another launch is submitting")

    def _max_array_size(self, *, default: int | None = None) -> int:
        """The cluster's MaxArraySize; array indices stay below it.

        Raises:
            RunnerError: the controller does not answer, and there is no default.
        """
        queue = self.jobs.queue_of(clusters_of(self.runner).partition(",")[0])
        answer = run_command(queue.command("scontrol", "show", "config"))
        for line in answer.stdout.splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "MaxArraySize":
                return int(value)
        if default is not None:
            return default
        hint = "run this on a login node of the cluster, or launch without --runner to train on this machine"
        raise RunnerError("no SLURM controller answers here", got=answer.stderr.strip() or None, hint=hint)

    def _next_number(self) -> int:
        names = (path.name.partition(".")[0] for path in self.folder.glob("[0-9]*.json*"))  # `.bad` ones count too
        return max((int(name) for name in names if name.isdigit()), default=0) + 1

    def _name(self, number: int) -> str:
        return f"{self.launch}.{number:02d}"


def _refusal(error: SubmissionRefused, *, left: int, goes_on: bool) -> str:
    """What the user should know of a launch that SLURM took a part of."""
    words = " ".join(str(error.got).split())
    if not left:
        return f"SLURM refused the job that goes on when the others have ended ({words}); launch again when they have"
    who = "the job that goes on when the others have ended submits them" if goes_on else "`scaling launch` submits them"
    return f"SLURM refused a further job ({words}): {left} runs are not submitted yet; {who}"
