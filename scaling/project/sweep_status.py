"""How the runs of a launch stand, together."""

from __future__ import annotations

import os
from dataclasses import dataclass

from scaling.files import JsonObject
from scaling.project.opened import OpenSweep
from scaling.results.launches import Launch
from scaling.results.status import RunStatus, counts
from scaling.runners.runner_file import PACKAGED_LOCAL
from scaling.runners.scheduler import JobsView

ENDED = ("completed", "diverged")


@dataclass(frozen=True)
class SweepStatus:
    """Every run of `launch`, in plan order, and what the scheduler said of its jobs.

    Attributes:
        collected: all runs have a result, and runs.csv is newer than the newest of them.
    """

    launch: Launch
    runs: tuple[RunStatus, ...]
    jobs: JobsView
    collected: bool

    @property
    def counts(self) -> dict[str, int]:
        """How many runs have each status."""
        return counts(self.runs)

    @property
    def in_progress(self) -> bool:
        """True while a run is training or queued."""
        return any(run.status in ("running", "queued") for run in self.runs)

    @property
    def hours_left(self) -> float:
        """Predicted device hours of what has no result yet."""
        left = [run for run in self.runs if run.status not in ENDED]
        return sum((1 - run.progress) * (run.row.hours or 0.0) for run in left)

    @property
    def packaged_runner(self) -> bool:
        """True where the launch used this machine's packaged profile."""
        return self.launch.runner_text == PACKAGED_LOCAL.read_text()

    def to_json(self) -> JsonObject:
        """The document of `scaling status --json`."""
        runs = [run.to_json() for run in self.runs]
        return {"sweep": self.launch.sweep, "counts": self.counts, "runs": runs, "notes": list(self.jobs.notes)}


def sweep_status(opened: OpenSweep, launch: Launch) -> SweepStatus:
    """The status of a launch now."""
    jobs = opened.scheduler_of(launch).poll(set(launch.ids))
    runs = tuple(opened.statuses(launch, jobs=jobs))
    return SweepStatus(launch, runs, jobs, _collected(opened, launch, runs))


def _collected(opened: OpenSweep, launch: Launch, runs: tuple[RunStatus, ...]) -> bool:
    if not opened.table.exists() or any(run.status not in ENDED for run in runs):
        return False
    results = (f"{launch.store}/{run_id}/result.json" for run_id in launch.ids)
    return opened.table.stat().st_mtime >= max(os.lstat(path).st_mtime for path in results)
