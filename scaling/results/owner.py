"""Who works on a run: the identity of a process, and whether it still lives.

A process is named by machine, boot, PID namespace, pid and start time, because a pid alone is reused and a store may
be shared by many machines. Whether an owner lives can be answered only where it ran; elsewhere the scheduler is
asked, or its heartbeat is watched.
"""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import scaling
from scaling.files import JsonObject
from scaling.results.jobs import JobRef


@dataclass(frozen=True)
class Owner:
    """A worker process, as an attempt file records it."""

    host: str
    machine_id: str
    boot_id: str
    pid_namespace: str
    pid: int
    started: str  # start time of the process in the kernel's own units
    job_id: str | None  # of the scheduler, None where there is none
    restart_count: int
    code_version: str
    submitted_version: str | None = None  # of the code when the run was submitted, where it has changed since
    job_submitted: str | None = None  # when the scheduler took the job; unknown in records of 0.1
    job_cluster: str | None = None  # whose id that is

    @classmethod
    def current(cls, *, submitted: str | None = None, job: JobRef | None = None) -> Owner:
        """This process, which runs in `job`; `submitted` is the code version when its work was submitted."""
        return cls(
            host=socket.gethostname(),
            machine_id=_read("/etc/machine-id"),
            boot_id=_boot_id(),
            pid_namespace=_pid_namespace(),
            pid=os.getpid(),
            started=_started(os.getpid()) or "",
            job_id=job.id if job else None,
            restart_count=job.restart_count if job else 0,
            code_version=code_version(),
            submitted_version=None if submitted == code_version() else submitted,
            job_submitted=job.submitted if job else None,
            job_cluster=job.cluster if job else None,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Owner:
        """The owner that `to_json` wrote."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})

    @classmethod
    def unknown(cls) -> Owner:
        """The owner of a claim that cannot be read; whether it is alive is unknown."""
        return cls("an unknown host", "", "", "", 0, "", None, 0, "unknown")

    @property
    def problem(self) -> str | None:
        """Why this does not name a process, in words; None where it does."""
        for name, value in vars(self).items():
            kind = int if name in ("pid", "restart_count") else str
            optional = name in ("job_id", "submitted_version", "job_submitted", "job_cluster")
            if type(value) is not kind and not (optional and value is None):
                return f"{name}: {value!r}"
        return None

    def to_json(self) -> JsonObject:
        """A plain dictionary."""
        return asdict(self)

    @property
    def job(self) -> JobRef | None:
        """The job that the process runs in."""
        if self.job_id is None:
            return None
        return JobRef(self.job_id, self.job_submitted, self.restart_count, self.job_cluster)

    @property
    def code_change(self) -> str | None:
        """That the code changed between submission and start, in words."""
        return self.submitted_version and f"code {self.code_version}, submitted with {self.submitted_version}"

    def alive(self) -> bool | None:
        """True or False where this machine can tell, None where it cannot."""
        if (self.host, self.machine_id) != (socket.gethostname(), _read("/etc/machine-id")):
            return None
        if self.boot_id != _boot_id():
            return False
        if self.pid_namespace != _pid_namespace():
            return None
        return _started(self.pid) == self.started

    def succeeded_by(self, other: Owner) -> bool:
        """True where `other` is a later start of the same scheduler job, so this process is known to be gone."""
        same = self.job_id is not None and (self.job_id, self.job_cluster) == (other.job_id, other.job_cluster)
        return same and other.restart_count > self.restart_count


@functools.cache
def code_version() -> str:
    """The package version and a hash of its source files: what a launch froze can be compared with what a worker
    runs.
    """
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return f"{scaling.__version__}+{digest.hexdigest()[:10]}"


def _started(pid: int) -> str | None:
    """Start time of a live process; None where there is none or only its zombie is left."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _started_portable(pid)
    fields = stat.rpartition(")")[2].split()  # the command name before may hold spaces and brackets
    return None if fields[0] in "ZX" else fields[19]


def _started_portable(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.1f}"
    except psutil.NoSuchProcess:
        return None


@functools.cache
def _boot_id() -> str:
    if boot_id := _read("/proc/sys/kernel/random/boot_id"):
        return boot_id
    import psutil

    return f"{psutil.boot_time():.0f}"


@functools.cache
def _pid_namespace() -> str:
    path = Path("/proc/self/ns/pid")
    return str(path.readlink()) if path.is_symlink() else ""


@functools.cache
def _read(path: str) -> str:
    file = Path(path)
    return file.read_text().strip() if file.exists() else ""
