"""One run: its settings, who tried to train it, and its losses on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scaling.files import JsonObject
from scaling.project.opened import OpenSweep
from scaling.results.curves import Point, curve
from scaling.results.launches import Launch
from scaling.results.status import RunStatus
from scaling.results.store import Attempt, Store
from scaling.rows import PlanRow


@dataclass(frozen=True)
class Tried:
    """One attempt, and the files that the job of its worker wrote."""

    attempt: Attempt
    job_logs: tuple[Path, ...]

    def to_json(self) -> JsonObject:
        """The attempt as `scaling show --json` lists it."""
        error = self.attempt.error()
        return {
            "attempt": self.attempt.number,
            "owner": self.attempt.owner.to_json(),
            "metrics": str(self.attempt.metrics_path),
            "job_logs": [str(path) for path in self.job_logs],
            "last_record": self.attempt.last_record(),
            "damaged": self.attempt.damaged,
            "error": None if error is None else error["message"],
        }


@dataclass(frozen=True)
class RunHistory:
    """What is known of one run; `attempts` oldest first, `curve` by step, as in curves.csv."""

    status: RunStatus
    attempts: tuple[Tried, ...]
    curve: tuple[Point, ...]

    @property
    def row(self) -> PlanRow:
        """Its row of the plan."""
        return self.status.row

    def to_json(self) -> JsonObject:
        """The document of `scaling show --json`."""
        return {
            "run": self.status.to_json(),
            "settings": dict(self.row.settings or {}),
            "attempts": [tried.to_json() for tried in self.attempts],
            "curve": list(self.curve),
        }


def run_history(opened: OpenSweep, launch: Launch, row: PlanRow) -> RunHistory:
    """The history of one run of a launch."""
    [status] = [one for one in opened.statuses(launch) if one.row.id == row.id]
    store, scheduler = Store(Path(launch.store)), opened.scheduler_of(launch)
    newest = store.newest(row.id)
    attempts = [store.attempt(row.id, number) for number in range(1, newest.number + 1 if newest else 1)]
    tried = (Tried(one, tuple(scheduler.logs(one.owner.job)) if one.owner.job else ()) for one in attempts)
    return RunHistory(status, tuple(tried), tuple(curve(store, row.id)))
