"""States of jobs in SLURM: one batched query for all of them, at most every few seconds.

`squeue` is asked, because the controller alone knows whether a job may still run: accounting lags, and calls a job
NODE_FAIL while SLURM is already running it again. One answer that does not list a job does not end it. Where the
controller does not answer, `sacct` is asked; where neither does, a job is *unknown*, and is not reported as failed or
gone.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from scaling.results.jobs import JobRef, JobState

QUERY_SECONDS = 30.0  # a dead controller lets squeue hang for 9 or 18 s (SLURM 22.05, MessageTimeout 10 s)
CONFIRM_SECONDS = 2.0  # assumption: between two answers of squeue that both do not list a job
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


def run_command(
    command: list[str], *, timeout_s: float = QUERY_SECONDS, seconds: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run one SLURM command; a missing program or one that hangs reads as a failure with a message.

    Args:
        command: the program and its arguments.
        timeout_s: how long it may take.
        seconds: let it print times in seconds, the same in every time zone.
    """
    environment = login_environment() | ({"SLURM_TIME_FORMAT": "%s"} if seconds else {})
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]}: no answer in {timeout_s:.0f} s")


@dataclass(frozen=True)
class _Answer:
    """What SLURM said of one job: its elements, and what an element is that was not listed (None: not asked for)."""

    asked: float
    states: Mapping[str, JobState]
    absent: JobState | None

    def lacks(self, job_id: str) -> bool:
        """Whether nothing is known of this element."""
        job = job_id.partition("_")[0]
        return self.absent is None and bool(_missing({job: [job_id]}, self.states))


class SlurmQueue:
    """The jobs of one cluster. Caches an answer for `INTERVAL_SECONDS`; `notes` says which part of SLURM did not answer
    the last query.

    No job is gone because one answer of squeue does not list it: accounting has to say how it ended, or a second answer
    `CONFIRM_SECONDS` later has to leave it out too.
    """

    def __init__(
        self,
        *,
        cluster: str = "",
        run: Command = run_command,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cluster = cluster  # for `-M`; empty: the one that squeue asks by itself
        self._run, self._clock, self._sleep = run, clock, sleep
        self._seen: dict[str, _Answer] = {}
        self.notes: tuple[str, ...] = ()

    def command(self, *words: str) -> list[str]:
        """A SLURM command for this cluster."""
        return [words[0], *([f"--clusters={self.cluster}"] if self.cluster else []), *words[1:]]

    def poll(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        """The state of every job and array element of `job_ids` that SLURM still knows, by one query.

        Args:
            job_ids: ``12`` or ``12_3``; of an array all elements are returned. Others (of no SLURM) are left out.
        """
        wanted: dict[str, list[str]] = {}
        for job_id in job_ids:
            if re.fullmatch(r"\d+(_\d+)?", job_id):
                wanted.setdefault(job_id.partition("_")[0], []).append(job_id)
        now = self._clock()
        stale = {job: ids for job, ids in wanted.items() if self._is_stale(job, ids, now)}
        if stale:
            self._seen |= self._ask(stale)
        return {job_id: state for job in wanted for job_id, state in self._seen[job].states.items()}

    def state(self, job_id: str) -> JobState:
        """The state of one job or array element."""
        self.poll([job_id])
        answer = self._seen.get(job_id.partition("_")[0])
        if answer is None:
            return UNKNOWN
        return answer.states.get(job_id, answer.absent or UNKNOWN)

    def active(self, job: JobRef) -> bool | None:
        """Whether SLURM still holds `job`; None where it is unknown."""
        return self.state(job.id).active_for(job)

    def forget(self) -> None:
        """Drop the cached answer."""
        self._seen.clear()

    def named(self, names: Collection[str]) -> dict[str, str] | None:
        """Job name -> job id of the live jobs with these names; None where the controller does not answer. A name that
        is missing is asked for twice.
        """
        jobs: dict[str, str] = {}
        for last in (False, True):
            answer = self._run(self.command("squeue", "-h", "-a", "-o", "%F|%j", f"--name={','.join(names)}"))
            if answer.returncode != 0:
                return None
            jobs |= {name: job for job, name in _fields(answer.stdout, 2)}
            if last or jobs.keys() >= set(names):
                break
            self._sleep(CONFIRM_SECONDS)
        return jobs

    def endings(self, job_ids: Iterable[str]) -> dict[str, str]:
        """States of ended jobs from accounting; empty where accounting does not answer (`notes` says so)."""
        ids = ",".join(sorted({job_id.partition("_")[0] for job_id in job_ids}, key=int))
        if not ids:
            return {}
        answer = self._run(self.command("sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ids))
        if answer.returncode != 0:
            why = _last_line(answer.stderr)
            self.notes += (f"accounting does not answer, so how jobs ended is not known ({why})",)
            return {}
        return _by_element(answer.stdout)

    def _is_stale(self, job: str, job_ids: list[str], now: float) -> bool:
        answer = self._seen.get(job)
        if answer is None or now - answer.asked >= INTERVAL_SECONDS:
            return True
        return any(map(answer.lacks, job_ids))

    def _ask(self, wanted: Mapping[str, list[str]]) -> dict[str, _Answer]:
        """Answers about jobs, of which these elements are wanted."""
        self.notes = ()
        absent: dict[str, JobState] = {}
        states = self._listed(wanted)
        if states is None:
            states, absent = self._accounted(wanted), dict.fromkeys(wanted, UNKNOWN)
        elif missing := _missing(wanted, states):
            states = self._ended(missing) | states
            if missing := _missing(missing, states):
                self._sleep(CONFIRM_SECONDS)
                again = self._listed(missing)
                states |= again or {}
                absent = dict.fromkeys(missing, UNKNOWN if again is None else GONE)
        now = self._clock()  # a query of a dead controller takes longer than an answer is cached
        by_job: dict[str, dict[str, JobState]] = {job: {} for job in wanted}
        for job_id, state in states.items():
            by_job.get(job_id.partition("_")[0], {})[job_id] = state
        return {job: _Answer(now, of_job, absent.get(job)) for job, of_job in by_job.items()}

    def _listed(self, jobs: Iterable[str]) -> dict[str, JobState] | None:
        """The elements that squeue lists; None where the controller does not answer."""
        ids = ",".join(sorted(jobs, key=int))
        answer = self._run(self.command("squeue", "-h", "-a", "-r", "-t", "all", "-o", "%i|%T|%r|%V|%j", "-j", ids))
        if answer.returncode == 0:
            return {job: _live(*values) for job, *values in _fields(answer.stdout, 5)}
        if "Invalid job id" in answer.stderr:  # the controller answers and knows none of them
            return {}
        self.notes += (f"the SLURM controller does not answer ({_last_line(answer.stderr)})",)
        return None

    def _accounted(self, jobs: Iterable[str]) -> dict[str, JobState]:
        """What accounting knows, for want of a controller."""
        ids = ",".join(sorted(jobs, key=int))
        answer = self._run(self.command("sacct", "-D", "-X", "-n", "-P", "-o", "JobID,State", "-j", ids))
        if answer.returncode != 0:
            self.notes += (f"accounting does not answer ({_last_line(answer.stderr)})",)
            return {}
        return {job: _past(state) for job, state in _by_element(answer.stdout).items()}

    def _ended(self, jobs: Iterable[str]) -> dict[str, JobState]:
        """The elements that have ended for good as accounting says; silence proves nothing here."""
        ids = ",".join(sorted(jobs, key=int))
        answer = self._run(self.command("sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ids))
        states = {job: _past(state) for job, state in _by_element(answer.stdout).items()}
        return {job: state for job, state in states.items() if answer.returncode == 0 and state.active is False}


def _missing(wanted: Mapping[str, list[str]], states: Mapping[str, JobState]) -> dict[str, list[str]]:
    """Of jobs -> wanted elements, those that are not listed."""
    listed = states.keys() | {job_id.partition("_")[0] for job_id in states}
    missing = {job: [job_id for job_id in job_ids if job_id not in listed] for job, job_ids in wanted.items()}
    return {job: job_ids for job, job_ids in missing.items() if job_ids}


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
