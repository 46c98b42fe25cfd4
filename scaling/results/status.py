"""Status: derived from the store and the scheduler at every call, never stored.

result (of today's corpus) -> completed | diverged      a result of another corpus -> stale
newest attempt alive       -> running
a scheduler job holds it   -> queued
newest attempt dead        -> stopped where it was asked to and left a checkpoint, else failed, with its message
an invalid result          -> damaged, until the next launch sets it aside
otherwise                  -> planned
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scaling.errors import StoreError
from scaling.files import JsonObject
from scaling.results.heartbeat import BEAT_SECONDS, WATCH_SECONDS, last_write
from scaling.results.jobs import HeldRun, JobActive
from scaling.results.store import DEAD, Attempt, Liveness, Store
from scaling.rows import PlanRow
from scaling.run import Result

SILENT = ("silent", "stopped")
STATUSES = ("completed", "diverged", "failed", "running", "queued", "planned", "stale", "stopped", "damaged")


@dataclass(frozen=True)
class RunStatus:
    """One run of a launch as it stands. `progress` is the share done of the steps it pays for (a branch of a trunk does
    not make those before its shorter sibling's branch), `loss` in nats per token.
    """

    row: PlanRow
    status: str
    loss: float | None
    progress: float
    message: str | None
    record: Mapping[str, Any]  # the newest metrics
    crashed: bool = False  # failed with an error of its own; a run that was only interrupted continues by itself
    damaged: str | None = None  # which record of it is damaged or was set aside
    code_change: str | None = None  # which code trains or trained it, where another version was submitted
    result: Result | None = None  # what it published, of today's corpus or an earlier one
    silent: bool = False  # nothing came from its worker for ten minutes; after ten seconds more it counts as dead

    def to_json(self) -> JsonObject:
        """The run as `scaling status --json` lists it."""
        labels = {name: getattr(self.row, name) for name in ("id", "line", "budget", "params_total", "seed", "lr")}
        labels["cell"] = str(self.row.cell)
        values = {name: getattr(self, name) for name in ("status", "loss", "message", "damaged", "code_change")}
        return labels | values


def run_status(
    row: PlanRow,
    store: Store,
    *,
    corpus_hash: str,
    jobs: Mapping[str, HeldRun] | None = None,
    job_active: JobActive | None = None,
    endings: Mapping[str, str] | None = None,
) -> RunStatus:
    """The status of one planned run.

    Args:
        row: its row of the frozen plan.
        store: where it is trained.
        corpus_hash: of the corpus the launch prepared; a result of another one is stale.
        jobs: run id -> the job of a scheduler that holds it.
        job_active: asks the scheduler about an attempt's own job.
        endings: run id -> how the last job that held it ended; a run whose job ended before its first attempt failed.
    """
    run_id = row.id
    try:
        published, unbelieved = store.published(run_id), None
    except StoreError as error:
        published, unbelieved = None, error.sentence
    if published is not None:
        result, owner = published
        if result.corpus_hash != corpus_hash:
            why = "trained on an earlier state of the corpus"
            return RunStatus(row, "stale", result.loss_nats, 1.0, why, {}, result=result)
        message = "the loss stopped being finite" if result.status == "diverged" else None
        change = owner.code_change
        return RunStatus(row, result.status, result.loss_nats, 1.0, message, {}, code_change=change, result=result)
    status = _unfinished(row, store, unbelieved, jobs or {}, job_active, (endings or {}).get(run_id))
    return replace(status, damaged=unbelieved or store.damaged_beside_result(run_id))


def _unfinished(
    row: PlanRow,
    store: Store,
    unbelieved: str | None,
    jobs: Mapping[str, HeldRun],
    job_active: JobActive | None,
    ending: str | None,
) -> RunStatus:
    """The status of a run without a result, or with an invalid one."""
    run_id = row.id
    attempt = store.newest(run_id)
    record = attempt.last_record() if attempt else {}
    progress = _progress(row, record)
    liveness = store.liveness(attempt, job_active=job_active) if attempt else "dead"
    if attempt is not None and liveness not in DEAD and not (liveness == "silent" and run_id in jobs):
        change, message = attempt.owner.code_change, _life(attempt, liveness, store)
        silent = liveness == "silent"
        return RunStatus(row, "running", _loss(record), progress, message, record, code_change=change, silent=silent)
    if run_id in jobs:
        return RunStatus(row, "queued", None, progress, str(jobs[run_id]), record)
    if unbelieved is not None:
        return RunStatus(row, "damaged", None, progress, unbelieved, record)
    if attempt is not None:
        crashed = attempt.error() is not None
        status = "stopped" if record.get("event") == "stopped" and not crashed else "failed"
        message = _death(attempt, record) + (f" ({ending})" if ending and not crashed else "")
        return RunStatus(row, status, _loss(record), progress, message, record, crashed)
    if ending is not None:
        message = f"{ending}, before a worker took the run; `scaling launch` submits it again"
        return RunStatus(row, "failed", None, 0.0, message, {})
    return RunStatus(row, "planned", None, 0.0, None, {})


def _life(attempt: Attempt, liveness: Liveness, store: Store) -> str:
    """Where a run is trained, and what is missing of its heartbeat."""
    where = f"on {attempt.owner.host}"
    if liveness == "hidden":
        return f"{where}, no heartbeat visible: who may write in the store can tell whether that worker lives"
    if liveness == "alive" and attempt.owner.job_id and _looks_silent(attempt) and store.pulse(attempt) in SILENT:
        job = attempt.owner.job_id
        return f"{where}, without a heartbeat for ten minutes although job {job} runs; `scancel {job}` ends it"
    return where


def _looks_silent(attempt: Attempt) -> bool:
    """By this machine's clock, which costs nothing; a heartbeat comes twice a minute."""
    written, _ = last_write(attempt.metrics_path, attempt.claim_path)
    return not 0 <= time.time() - written < 2 * BEAT_SECONDS


def _progress(row: PlanRow, record: Mapping[str, Any]) -> float:
    """The share done, from 0 to 1, whatever the metrics say."""
    inherited, step = row.inherited_steps, record.get("step", 0)
    done: int = step - inherited if isinstance(step, int) else 0
    share: float = max(0, done) / max(1, row.steps - inherited)
    return min(1.0, share)


def _loss(record: Mapping[str, Any]) -> float | None:
    loss = record.get("loss_nats")
    return loss if isinstance(loss, float) else None


def statuses(
    rows: Iterable[PlanRow],
    store: Store,
    *,
    corpus_hash: str,
    jobs: Mapping[str, HeldRun] | None = None,
    job_active: JobActive | None = None,
    endings: Mapping[str, str] | None = None,
) -> list[RunStatus]:
    """`run_status` of every row, in order. Takes `WATCH_SECONDS` more where a worker that nobody can be asked about has
    been silent for ten minutes, so that this is the judgement of the next launch too.
    """

    def status(row: PlanRow) -> RunStatus:
        return run_status(row, store, corpus_hash=corpus_hash, jobs=jobs, job_active=job_active, endings=endings)

    runs = [status(row) for row in rows]
    if any(run.silent for run in runs):
        time.sleep(WATCH_SECONDS)
        runs = [status(run.row) if run.silent else run for run in runs]
    return runs


def counts(runs: Iterable[RunStatus]) -> dict[str, int]:
    """How many runs have each of the `STATUSES`."""
    counter = Counter(run.status for run in runs)
    return {status: counter[status] for status in STATUSES}


def code_changes(runs: Iterable[RunStatus]) -> list[str]:
    """Which code trained runs that were submitted with other code, one line for every pair of versions."""
    counter = Counter(run.code_change for run in runs if run.code_change)
    return [f"{count} run{'s' * (count > 1)} trained by {change}" for change, count in sorted(counter.items())]


def _death(attempt: Attempt, record: Mapping[str, Any]) -> str:
    if error := attempt.error():
        return error["message"]
    at = f"at step {record['step']}" if "step" in record else "before its first step"
    if record.get("event") == "stopped":
        return f"stopped {at}; `scaling launch` continues it"
    return f"its process on {attempt.owner.host} (pid {attempt.owner.pid}) died {at}; `scaling launch` continues it"
