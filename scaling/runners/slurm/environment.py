"""The SLURM job that this process runs in: its id and submit time, its ranks, and where they meet."""

from __future__ import annotations

import os

from scaling.results.jobs import JobRef
from scaling.runners.scheduler import JobEnvironment, Ranks
from scaling.runners.slurm.queue import SlurmQueue, run_command

CLUSTER_NAME = "SLURM_CLUSTER_NAME"
SUBMITTED = "SCALING_JOB_SUBMITTED"  # "<job>.<restart>=<submit time>": a task asks once for all its workers
_PORTS = range(20_000, 32_000)  # below the ports that Linux hands out by itself (32768 and up)


def job_environment() -> JobEnvironment | None:
    """The job of this process; None outside of one. The first call in a job asks SLURM when it was submitted."""
    job_id = own_job_id()
    if job_id is None:
        return None
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    cluster = os.environ.get(CLUSTER_NAME)
    job, queue = JobRef(job_id, _submitted(job_id, restart), restart, cluster), SlurmQueue()

    def active(other: JobRef) -> bool | None:
        return queue.active(other) if other.cluster in (None, cluster) else None  # squeue asks the own cluster

    return JobEnvironment(job, _ranks() if rank_count() > 1 else None, active)


def own_job_id() -> str | None:
    """The id of the job, or array element, that this process runs in; None outside of one."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def rank_count() -> int:
    """How many tasks of this step work together."""
    return int(os.environ.get("SLURM_NTASKS", "1"))


def meeting_place(nodes: str, job_id: str) -> tuple[str, int]:
    """Where the ranks of a job meet: a port of its own on its first node.

    Args:
        nodes: SLURM_JOB_NODELIST, ``gpu[3-4,7]``.
        job_id: SLURM_JOB_ID, unique among the jobs that may share a node.
    """
    hosts = run_command(["scontrol", "show", "hostnames", nodes]).stdout.split()
    return hosts[0] if hosts else nodes, _PORTS[int(job_id) % len(_PORTS)]


def _ranks() -> Ranks | None:
    """None outside of a step, where a process has no rank."""
    env = os.environ
    if "SLURM_PROCID" not in env or "SLURM_JOB_NODELIST" not in env:
        return None
    address, port = meeting_place(env["SLURM_JOB_NODELIST"], env["SLURM_JOB_ID"])
    return Ranks(int(env["SLURM_PROCID"]), rank_count(), int(env.get("SLURM_LOCALID", "0")), address, port)


def _submitted(job_id: str, restart: int) -> str | None:
    """The job's submit time as squeue gives it, in seconds; SLURM sets it anew at a requeue. None if unknown."""
    key, _, submitted_at = os.environ.get(SUBMITTED, "").partition("=")
    if key == f"{job_id}.{restart}":
        return submitted_at or None
    answer = run_command(["squeue", "-h", "-a", "-o", "%V", "-j", job_id])
    lines = answer.stdout.split() if answer.returncode == 0 else []
    submitted = lines[0] if len(lines) == 1 else None
    os.environ[SUBMITTED] = f"{job_id}.{restart}={submitted or ''}"
    return submitted
