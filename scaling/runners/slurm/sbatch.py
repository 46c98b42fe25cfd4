"""One job array by sbatch, whatever sbatch answers.

submitit writes the text of the script and the pickles, and starts the tasks; sbatch is called here. It may take a job
and then time out or fail (a controller under load, a wrapper), and a wrapper may print something else than sbatch does.
So a job whose id sbatch did not say is looked up by its name, which no other submission has, before it counts as
refused.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import RunnerError
from scaling.files import write_atomic
from scaling.runners.slurm.queue import run_command
from scaling.runners.slurm.store_jobs import StoreJobs
from scaling.runners.slurm.submissions import Submitted

if TYPE_CHECKING:
    from submitit import SlurmExecutor

SBATCH_SECONDS = 120.0  # assumption: sbatch itself tries again for about a minute where slurmctld is busy
_SAYS = re.compile(r"job (\d+)(?: on cluster (\S+))?")  # "Submitted batch job 12 on cluster gpu"
_BARE = re.compile(r"(\d+)(?:;(\S+))?")  # sbatch --parsable, and wrappers


class SubmissionRefused(RunnerError):
    """SLURM did not take a job, and has none of its name."""


def job_of(output: str) -> tuple[str, str] | None:
    """The job id and the cluster ("" where there is only one) that sbatch, or a wrapper of it, printed."""
    lines = output.strip().splitlines()
    match = _SAYS.search(output) or (_BARE.fullmatch(lines[-1].strip()) if lines else None)
    return (match[1], match[2] or "") if match else None


def submit(
    submitted: Submitted,
    executor: SlurmExecutor,
    function: Callable[..., None],
    calls: Sequence[tuple[object, ...]],
    jobs: StoreJobs,
) -> str:
    """Submit an intention that is written down; the id of its job.

    Args:
        submitted: the intention.
        executor: with the options of the job.
        function: what a task calls, with its element of `calls`.
        calls: one for each task.
        jobs: asked for the job where sbatch does not say its id.

    Raises:
        SubmissionRefused: SLURM has no such job; its words are in the error.
        RunnerError: SLURM does not say whether it has the job. The next launch looks it up.
    """
    for task, call in enumerate(calls):
        _dump(submitted.pickle_path(task), function, call, minutes=executor.parameters["time"])
    script = submitted.path.with_suffix(".sh")
    write_atomic(script, submission_text(executor, tasks=len(calls)))
    answer = run_command(["sbatch", str(script)], timeout_s=SBATCH_SECONDS, seconds=False)
    name, clusters = submitted.submission.name, submitted.submission.clusters
    job = job_of(answer.stdout) if answer.returncode == 0 else None
    job = job or jobs.named([name], clusters).get(name)
    if job is None:
        submitted.settle("")
        script.unlink()
        words = answer.stderr.strip() or f"exit status {answer.returncode} and the words {answer.stdout.strip()!r}"
        hint = "scaling doctor --runner FILE"
        raise SubmissionRefused("sbatch refused the job", where=name, got=words, hint=hint)
    job_id, cluster = job
    submitted.place(job_id)
    submitted.settle(job_id, cluster)
    os.replace(script, script.with_name(f"{job_id}_submission.sh"))
    return job_id


def submission_text(executor: SlurmExecutor, *, tasks: int) -> str:
    """The sbatch text that submitit writes for `tasks` calls.

    submitit 1.5 has no public way to ask for it; this is the one place that uses a private method of submitit.
    """
    if tasks > 1:
        executor.parameters["map_count"] = tasks
    text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
    return text


def make_executor(folder: Path, parameters: Mapping[str, object]) -> SlurmExecutor:
    """submitit's executor with these options, also on a machine without SLURM; it logs into `folder`."""
    import submitit

    class Executor(submitit.SlurmExecutor):
        """Writes its text on a machine without SLURM, too."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    executor = Executor(folder, python=f"{shlex.quote(sys.executable)} -P")
    executor.update_parameters(**parameters)
    return executor


def _dump(path: Path, function: Callable[..., None], call: tuple[object, ...], *, minutes: int) -> None:
    from submitit.core.utils import DelayedSubmission

    delayed = DelayedSubmission(function, *call)
    delayed.set_timeout(minutes, 0)  # our tasks ask for their requeue themselves
    path.parent.mkdir(parents=True, exist_ok=True)
    delayed.dump(path)
