"""States of jobs in SLURM: one batched query for all of them, at most every few seconds.

`squeue` is asked, because the controller alone knows whether a job may still run: accounting lags, and calls a job
NODE_FAIL while SLURM is already running it again. Where the controller does not answer, `sacct` is; where neither
does, a job is *unknown*, and is not reported as failed or gone.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping

from scaling.results.jobs import JobRef, JobState

QUERY_SECONDS = 30.0  # a dead controller lets squeue hang for 9 or 18 s (SLURM 22.05, MessageTimeout 10 s)
INTERVAL_SECONDS = 10.0  # assumption: what a cluster's operators accept from one status that refreshes

# squeue(1), JOB STATE CODES (SLURM 22.05–24.11)
_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
_ENDED |= {"REVOKED", "TIMEOUT"}
_ACTIVE = {"COMPLETING", "CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "RUNNING"}
_ACTIVE |= {"RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED"}
_RERUN = {"NODE_FAIL", "PREEMPTED", "REQUEUED"}  # in accounting these may be the past of a job that is queued again

Command = Callable[[list[str]], "subprocess.CompletedProcess[str]"]


GONE = JobState("ENDED", False)
UNKNOWN = JobState("UNKNOWN", None)


def login_environment() -> dict[str, str]:
    """The environment without the job that we may run in: sbatch and srun would take its sizes for their own."""
    return {
        k: v
        for k, v in os.environ.items()
        if k == "SLURM_CONF" or not k.startswith(("SLURM_", "SUBMITIT_", "SCALING_JOB_"))
    }


def run_command(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run one SLURM command; a missing program or one that hangs reads as a failure with a message."""
    environment = login_environment() | {"SLURM_TIME_FORMAT": "%s"}  # seconds, the same in every time zone
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False, env=environment
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]}: no answer in {QUERY_SECONDS:.0f} s")


class SlurmQueue:
    """Caches an answer for `INTERVAL_SECONDS`. `notes` says which part of SLURM did not answer the last query."""

    def __init__(self, *, run: Command = run_command, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._seen: dict[str, tuple[float, Mapping[str, JobState]]] = {}  # job -> when asked, its elements
        self.notes: tuple[str, ...] = ()

    def poll(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        """The state of every job and array element of `job_ids` that SLURM still knows, by one query.

        Args:
            job_ids: ``12`` or ``12_3``; of an array all elements are returned. Others (of no SLURM) are left out.
        """
        jobs = {job_id.partition("_")[0] for job_id in job_ids if re.fullmatch(r"\d+(_\d+)?", job_id)}
        now = self._clock()
        stale = [j for j in jobs if j not in self._seen or now - self._seen[j][0] >= INTERVAL_SECONDS]
        if stale:
            answer = self._ask(",".join(sorted(stale, key=int)))
            now = self._clock()  # a query of a dead controller takes longer than an answer is cached
            result: dict[str, dict[str, JobState]] = {job: {} for job in stale}
            for job_id, state in answer.items():
                result.get(job_id.partition("_")[0], {})[job_id] = state
            self._seen |= {job: (now, {"*": answer.get("*", GONE)} | states) for job, states in result.items()}
        return {job_id: state for job in jobs for job_id, state in self._seen[job][1].items() if job_id != "*"}

    def state(self, job_id: str) -> JobState:
        """The state of one job or array element."""
        self.poll([job_id])
        _, states = self._seen.get(job_id.partition("_")[0], (0.0, {"*": UNKNOWN}))
        return states.get(job_id, states["*"])

    def active(self, job: JobRef) -> bool | None:
        """Whether SLURM still holds `job`; None where it is unknown."""
        return self.state(job.id).active_for(job)

    def forget(self) -> None:
        """Drop the cached answer."""
        self._seen.clear()

    def named(self, names: Iterable[str]) -> dict[str, str] | None:
        """Job name -> job id of the live jobs with these names; None where the controller does not answer."""
        answer = self._run(["squeue", "-h", "-a", "-o", "%F|%j", f"--name={','.join(names)}"])
        if answer.returncode != 0:
            return None
        return {name: job for job, name in _fields(answer.stdout, 2)}

    def endings(self, job_ids: Iterable[str]) -> dict[str, str]:
        """States of ended jobs from accounting; empty where accounting does not answer (`notes` says so)."""
        ids = ",".join(sorted({job_id.partition("_")[0] for job_id in job_ids}, key=int))
        if not ids:
            return {}
        answer = self._run(["sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ids])
        if answer.returncode != 0:
            why = _last_line(answer.stderr)
            self.notes += (f"accounting does not answer, so how jobs ended is not known ({why})",)
            return {}
        return _by_element(answer.stdout)

    def _ask(self, ids: str) -> Mapping[str, JobState]:
        """Elements that SLURM knows; ``*`` stands for all it did not list, and is GONE where that is left out."""
        self.notes = ()
        answer = self._run(["squeue", "-h", "-a", "-r", "-t", "all", "-o", "%i|%T|%r|%V|%j", "-j", ids])
        if answer.returncode == 0:
            return {job: _live(*values) for job, *values in _fields(answer.stdout, 5)}
        if "Invalid job id" in answer.stderr:  # the controller answers and knows none of them, so they have ended
            return {}
        self.notes = (f"the SLURM controller does not answer ({_last_line(answer.stderr)})",)
        accounting = self._run(["sacct", "-D", "-X", "-n", "-P", "-o", "JobID,State", "-j", ids])
        if accounting.returncode != 0:
            self.notes += (f"accounting does not answer ({_last_line(accounting.stderr)})",)
            return {"*": UNKNOWN}
        return {job: _past(state) for job, state in _by_element(accounting.stdout).items()} | {"*": UNKNOWN}


def _fields(text: str, count: int) -> list[tuple[str, ...]]:
    rows = (line.split("|", count - 1) for line in text.splitlines())
    return [tuple(cell.strip() for cell in row) for row in rows if len(row) == count]


def _by_element(text: str) -> dict[str, str]:
    """Job or array element -> its state. Accounting has one row, ``9_[0-3,7%2]``, for elements that never started."""
    states: dict[str, str] = {}
    for job, state in _fields(text, 2):
        array = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", job)
        ranges = [part.split("-") for part in array[2].split(",")] if array else []
        places = [place for ends in ranges for place in range(int(ends[0]), int(ends[-1]) + 1)]
        states |= dict.fromkeys([f"{array[1]}_{place}" for place in places] if array else [job], state)
    return states


def _live(state: str, reason: str, submitted: str, name: str) -> JobState:
    active = True if state in _ACTIVE else False if state in _ENDED else None
    return JobState(state, active, reason, name, submitted)


def _past(state: str) -> JobState:
    word = state.split()[0] if state else ""  # accounting writes "CANCELLED by 0"
    if word in _RERUN or word not in _ACTIVE | _ENDED:
        return JobState(word or "UNKNOWN", None)
    return JobState(word, word in _ACTIVE)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
