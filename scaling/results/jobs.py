"""Jobs, as attempts and status speak of them: the job that a process belongs to, what a scheduler says of a job, and
which job holds a run.

Every scheduler of `scaling.runners` answers in these words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class JobRef:
    """The job that a process belongs to, as its attempts record it.

    Attributes:
        id: the scheduler's own id, ``12`` or ``12_3``.
        submitted: when the scheduler took the job, in its own words; None where it does not say. A cluster that was
            set up anew gives its ids out again, with other times.
        restart_count: how often the scheduler has started the job before.
        cluster: which of several clusters gave out the id; None where the scheduler does not say.
    """

    id: str
    submitted: str | None = None
    restart_count: int = 0
    cluster: str | None = None


@dataclass(frozen=True)
class JobState:
    """What a scheduler says of one job.

    Attributes:
        state: its word, ``PENDING``.
        active: whether the job may still run; None where it is unknown.
        reason: why it waits.
        name: of the job; empty where the scheduler does not say.
        submitted: as in `JobRef`; empty where the scheduler does not say.
    """

    state: str
    active: bool | None
    reason: str = ""
    name: str = ""
    submitted: str = ""

    def __str__(self) -> str:
        words = self.state.lower().replace("_", " ")
        return f"{words}: {self.reason}" if self.reason not in ("", "None") else words

    def active_for(self, job: JobRef) -> bool | None:
        """`active`, for a process of `job`: the same id with another submit time is a later start or another job, and
        without a submit time it may be another job's, so that it proves nothing.
        """
        if not self.active:
            return self.active
        if job.submitted and self.submitted:
            return job.submitted == self.submitted
        return None


JobActive = Callable[[JobRef], bool | None]
"""Whether the scheduler still holds a job; None where it cannot say."""


@dataclass(frozen=True)
class HeldRun:
    """A run that a job holds: whose launch, which job, what the scheduler says of it.

    `stuck` is True where the job waits until somebody releases it, which the next launch does; `started` is False where
    it is said to be running and none of its workers has taken a run. `cluster` is the job's, where there are several.
    """

    launch: str
    job_id: str
    state: JobState
    stuck: bool = False
    started: bool = True
    cluster: str = ""

    def __str__(self) -> str:
        if self.state.state == "RUNNING" and not self.started:
            return f"job {self.job_id} is running, without a heartbeat: no worker of it has taken a run yet"
        if self.state.state == "RUNNING":
            return f"waits its turn in job {self.job_id}"
        return f"job {self.job_id} {self.state}" + "; `scaling launch` releases it" * self.stuck
