"""The store: one folder per run id, shared by sweeps, users and machines, in which nothing is trained twice.

    <store>/<id>/run.json                  the settings, written once
    <store>/<id>/attempts/0001.json        a claim: who trains, made exclusively, numbered without gaps
    <store>/<id>/attempts/0001.jsonl       its metrics; growth is the heartbeat
    <store>/<id>/attempts/0001.error.json  why it failed
    <store>/<id>/evaluations/*.json        its loss on further validation sets (`scaling evaluate`)
    <store>/<id>/checkpoints/              owned by training
    <store>/<id>/result.json               published once, the first writer wins
    <store>/trunks/<trunk id>/<step>.pt    states that wsd runs of several lengths share; owned by training

The claim *is* the attempt file. Attempt n + 1 is created with a link, so a take-over has one winner, and the number
fences the loser: a worker that finds a higher attempt writes no checkpoint and publishes nothing. Execution is at
least once, publication exactly once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scaling.errors import StoreError
from scaling.files import create_exclusive, read_json, to_json, write_atomic
from scaling.results.jobs import JobActive
from scaling.results.owner import Owner
from scaling.rows import SetLoss
from scaling.run import Result, Run

HEARTBEAT_SECONDS = 600.0  # assumption: docs/design.md, "The store and claims"

ENDED = ("stopped", "completed")  # the `event` of an attempt's last record when its worker has let go of the run


@dataclass(frozen=True)
class Attempt:
    """One claim on a run."""

    run_id: str
    number: int
    folder: Path  # the run's folder
    owner: Owner

    @property
    def metrics_path(self) -> Path:
        """The JSON lines this attempt logs."""
        return self.folder / "attempts" / f"{self.number:04d}.jsonl"

    @property
    def error_path(self) -> Path:
        """Why it failed, where it did."""
        return self.folder / "attempts" / f"{self.number:04d}.error.json"

    def owns(self) -> bool:
        """True until somebody has taken the run over."""
        return not (self.folder / "attempts" / f"{self.number + 1:04d}.json").exists()

    def log(self, record: dict[str, Any]) -> None:
        """Append one line of metrics, in one write."""
        line = json.dumps(record, allow_nan=False) + "\n"
        with self.metrics_path.open("ab", buffering=0) as file:
            file.write(line.encode())

    def fail(self, message: str, traceback: str) -> None:
        """Record an error; the attempt is over."""
        create_exclusive(self.error_path, to_json({"message": message, "traceback": traceback}))

    def error(self) -> dict[str, str] | None:
        """The recorded error."""
        return read_json(self.error_path) if self.error_path.exists() else None

    def last_record(self) -> dict[str, Any]:
        """The newest whole line of the metrics, {} where there is none."""
        try:
            with self.metrics_path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return {}
        for line in reversed(lines):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:  # cut by a crash, or by the window read here
                continue
            if isinstance(record, dict):
                return record
        return {}


class Store:
    """A folder of runs. Cheap to make; holds only its path and what it has seen of heartbeats."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._beats: dict[
            tuple[str, int], tuple[int, float]
        ] = {}  # attempt -> (size of its metrics, when first seen so)

    def folder(self, run_id: str) -> Path:
        """Where everything about a run lies."""
        return self.path / run_id

    def checkpoints(self, run_id: str) -> Path:
        """The folder that training owns."""
        return self.folder(run_id) / "checkpoints"

    @property
    def trunks(self) -> Path:
        """Where training keeps what runs share."""
        return self.path / "trunks"

    def add(self, run: Run) -> None:
        """Write `run.json`; where it is there already it must say the same."""
        path = self.folder(run.id) / "run.json"
        if not path.exists() and create_exclusive(path, to_json(run.settings())):
            return
        if self.run(run.id) != run:
            raise StoreError(
                "the store holds other settings under this run's id",
                where=str(path),
                hint="the folder is damaged: move it away and launch again",
            )

    def run(self, run_id: str) -> Run:
        """The settings of a run. Raises StoreError where they are missing, damaged, or of another schema."""
        path = self.folder(run_id) / "run.json"
        try:
            run = Run.from_settings(read_json(path))
        except FileNotFoundError:
            raise StoreError("no such run in the store", where=str(path), hint="scaling launch SWEEP") from None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise StoreError("run.json cannot be read by this version", where=str(path), got=str(error)) from None
        if run.id != run_id:
            raise StoreError("run.json does not hash to the name of its folder", where=str(path), got=run.id)
        return run

    def result(self, run_id: str) -> Result | None:
        """The published result, None where there is none yet."""
        published = self.published(run_id)
        return published[0] if published else None

    def published(self, run_id: str) -> tuple[Result, Owner] | None:
        """The result and who trained the run to its end; None where there is none yet. Raises StoreError."""
        path = self.folder(run_id) / "result.json"
        try:
            document = read_json(path)
            return Result.from_json(document["result"]), Owner.from_json(document["owner"])
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise StoreError(
                "result.json is damaged", where=str(path), got=str(error), hint="move it away and launch again"
            ) from None

    def newest(self, run_id: str) -> Attempt | None:
        """The attempt with the highest number."""
        folder = self.folder(run_id)
        try:
            names = [path.name for path in (folder / "attempts").iterdir()]
        except FileNotFoundError:
            return None
        numbers = [int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdigit()]
        if not numbers:
            return None
        number = max(numbers)
        owner = Owner.from_json(read_json(folder / "attempts" / f"{number:04d}.json"))
        return Attempt(run_id, number, folder, owner)

    def is_alive(self, attempt: Attempt, *, seen_by: Owner | None = None, job_active: JobActive | None = None) -> bool:
        """Whether somebody may still be working on `attempt`; doubt counts as life until the heartbeat has stopped.

        Args:
            attempt: the newest attempt of a run.
            seen_by: the process that asks: a later start of the same scheduler job knows that the earlier one is gone.
            job_active: asks the scheduler.
        """
        if attempt.error_path.exists() or attempt.last_record().get("event") in ENDED:
            return False
        alive = attempt.owner.alive()
        if alive is not None:
            return alive
        if seen_by is not None and attempt.owner.succeeded_by(seen_by):
            return False
        if job_active is not None and attempt.owner.job is not None:
            active = job_active(attempt.owner.job)
            if active is not None:
                return active
        return not self._heartbeat_stopped(attempt)

    def claim(self, run_id: str, owner: Owner, *, job_active: JobActive | None = None) -> Attempt | None:
        """Make the next attempt ours, or None: there is a result, the newest attempt lives, or another was faster."""
        if self.has_result(run_id):
            return None
        newest = self.newest(run_id)
        if newest is not None and self.is_alive(newest, seen_by=owner, job_active=job_active):
            return None
        number = newest.number + 1 if newest else 1
        attempt = Attempt(run_id, number, self.folder(run_id), owner)
        path = attempt.folder / "attempts" / f"{number:04d}.json"
        return attempt if create_exclusive(path, to_json(owner.to_json())) else None

    def has_result(self, run_id: str) -> bool:
        """True where a result is published."""
        return (self.folder(run_id) / "result.json").exists()

    def publish(self, attempt: Attempt, result: Result) -> bool:
        """Publish the result of a run; False where another attempt has taken it over or published first."""
        if not attempt.owns():
            return False
        document = {"attempt": attempt.number, "owner": attempt.owner.to_json(), "result": result.to_json()}
        return create_exclusive(attempt.folder / "result.json", to_json(document))

    def add_evaluation(self, run_id: str, evaluation: SetLoss, *, data: str, data_hash: str) -> None:
        """Keep the loss of a finished run on one more set: the file or folder `data`, prepared as `data_hash`."""
        path = self.folder(run_id) / "evaluations" / f"{evaluation.name}-{data_hash}.json"
        write_atomic(path, to_json({"data": data, "data_hash": data_hash, **asdict(evaluation)}))

    def evaluations(self, run_id: str) -> list[SetLoss]:
        """What `add_evaluation` has kept of a run, the newest of each name. 0.1 wrote the name only into that of the
        file, before the data hash.
        """
        paths = (self.folder(run_id) / "evaluations").glob("*.json")
        found = {}
        for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
            values = read_json(path)
            name = values.get("name") or path.stem.removesuffix(f"-{values['data_hash']}")
            found[name] = SetLoss(name, values["loss"], values["loss_se"], values["loss_per_byte"])
        return list(found.values())

    def retire(self, run_id: str) -> None:
        """Set a stale result aside (kept under `attempts/`), so that the run is trained again; its checkpoints and
        evaluations go.

        The caller holds the store's launch lock.
        """
        folder = self.folder(run_id)
        number = read_json(folder / "result.json")["attempt"]
        for path in (*self.checkpoints(run_id).glob("*"), *(folder / "evaluations").glob("*")):
            path.unlink()
        os.replace(folder / "result.json", folder / "attempts" / f"{number:04d}.stale.json")

    def _heartbeat_stopped(self, attempt: Attempt) -> bool:
        try:
            size = attempt.metrics_path.stat().st_size
        except FileNotFoundError:
            size = 0
        now = self._clock()
        key = (attempt.run_id, attempt.number)
        known_size, since = self._beats.get(key, (-1, now))
        if size != known_size:
            since = now
        self._beats[key] = (size, since)
        return now - since >= HEARTBEAT_SECONDS
