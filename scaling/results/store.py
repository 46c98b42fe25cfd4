"""The store: one folder per run id, shared by sweeps, users and machines, in which nothing is trained twice.

    <store>/store.json                     which store this is
    <store>/<id>/run.json                  the settings, written once; their hash is the id
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

Every record is checked when it is read (`scaling.records`). One that fails raises DamagedRecord; whoever claims the
run, or launches, gives it a name that ends in `.bad` and the run is trained again. Nothing inside a run folder is
followed through a symbolic link.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from scaling.errors import DamagedRecord, NewerRecord, StoreError
from scaling.files import JsonObject, append_line, create_exclusive, plain_entries, to_json, write_atomic
from scaling.records import bad_records, read_record, record_bytes, sealed, set_aside
from scaling.results.heartbeat import Heartbeats, Pulse
from scaling.results.jobs import JobActive
from scaling.results.owner import Owner
from scaling.results.validity import LOSS_UNIT, flops_problem, problem, steps_problem, unit_problem
from scaling.rows import SetLoss
from scaling.run import Result, Run, id_of_settings

FOLDERS = ("attempts", "checkpoints")  # of a run

_CLAIM = re.compile(r"(\d{4,})\.json(\.(\d+\.)?bad)?")

Liveness = Literal["alive", "dead"] | Pulse
"""Of an attempt: known to be alive or dead; else its heartbeat, of which only `stopped` means dead."""

DEAD = ("dead", "stopped")

ENDED = ("stopped", "completed")  # the `event` of an attempt's last record when its worker has let go of the run


@dataclass(frozen=True)
class Attempt:
    """One claim on a run."""

    run_id: str
    number: int
    folder: Path  # the run's folder
    owner: Owner
    damaged: str | None = None  # why its claim cannot be read; its owner is unknown then

    @property
    def metrics_path(self) -> Path:
        """The JSON lines this attempt logs."""
        return self.folder / "attempts" / f"{self.number:04d}.jsonl"

    @property
    def claim_path(self) -> Path:
        """The claim."""
        return self.folder / "attempts" / f"{self.number:04d}.json"

    @property
    def error_path(self) -> Path:
        """Why it failed, where it did."""
        return self.folder / "attempts" / f"{self.number:04d}.error.json"

    def owns(self) -> bool:
        """True until another worker has taken the run over."""
        higher = self.folder / "attempts" / f"{self.number + 1:04d}.json"
        return not os.path.lexists(higher) and not os.path.lexists(f"{higher}.bad")

    def log(self, record: JsonObject) -> None:
        """Append one line of metrics, in one write."""
        append_line(self.metrics_path, (json.dumps(record, allow_nan=False) + "\n").encode())

    def fail(self, message: str, traceback: str) -> None:
        """Record an error; the attempt is over."""
        values = {"attempt": self.number, "message": message, "traceback": traceback}
        create_exclusive(self.error_path, sealed(values, run_id=self.run_id))

    def error(self) -> dict[str, str] | None:
        """The recorded error; where its file is damaged, that."""
        try:
            values = read_record(self.error_path, run_id=self.run_id).values
        except FileNotFoundError:
            return None
        except StoreError as error:
            return {"message": f"failed; why cannot be read: {error.sentence}", "traceback": ""}
        return {name: str(values.get(name, "")) for name in ("message", "traceback")}

    def last_record(self) -> JsonObject:
        """The newest whole line of the metrics, {} where there is none."""
        try:
            lines = record_bytes(self.metrics_path, tail_bytes=8192).split(b"\n")[:-1]
        except (FileNotFoundError, StoreError):
            return {}
        for line in reversed(lines):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):  # cut by a crash, or by the window read here
                continue
            if isinstance(record, dict) and all(map(_is_metric, record.values())):
                return record
        return {}


class Store:
    """A folder of runs. Cheap to make; holds only its path and what it has seen of heartbeats."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._heartbeats = Heartbeats(clock=clock)
        self._believed: dict[str, tuple[tuple[int, int, int], Result, Owner]] = {}  # run id -> (file, what it says)

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
        """Write `run.json`; a damaged one, or a file or a link in place of the run's folder, is set aside."""
        self._set_aside_no_folder(run.id)
        path = self.folder(run.id) / "run.json"
        text = to_json(run.settings())
        if not os.path.lexists(path) and create_exclusive(path, text):
            return
        try:
            self.run(run.id)
        except DamagedRecord:
            set_aside(path, lambda moved: _read_run(moved, run.id))
            create_exclusive(path, text)

    def run(self, run_id: str) -> Run:
        """The settings of a run. Raises StoreError where they are missing, damaged, or of another schema."""
        try:
            return _read_run(self.folder(run_id) / "run.json", run_id)
        except FileNotFoundError:
            where = str(self.folder(run_id) / "run.json")
            raise StoreError("no such run in the store", where=where, hint="scaling launch SWEEP") from None

    def result(self, run_id: str) -> Result | None:
        """The published result; None where there is none, or none that is valid."""
        try:
            published = self.published(run_id)
        except StoreError:
            return None
        return published[0] if published else None

    def published(self, run_id: str) -> tuple[Result, Owner] | None:
        """The result and who trained the run to its end; None where there is none yet.

        Raises:
            DamagedRecord: it is damaged or invalid.
            NewerRecord: a later version wrote it.
            StoreError: it cannot be read.
        """
        path = self.path.joinpath(run_id, "result.json")
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError("the run's folder cannot be read", where=str(path.parent), got=error.strerror) from None
        version = (info.st_ino, info.st_mtime_ns, info.st_size)
        cached = self._believed.get(run_id)
        if cached is None or cached[0] != version:
            try:
                cached = self._believed[run_id] = (version, *self._read_result(path, run_id))
            except FileNotFoundError:
                return None
        return cached[1:]

    def newest(self, run_id: str) -> Attempt | None:
        """The attempt with the highest number, whether or not its claim can be read."""
        numbers = [
            int(n[1]) for p in plain_entries(self.folder(run_id) / "attempts") if (n := _CLAIM.fullmatch(p.name))
        ]
        return self.attempt(run_id, max(numbers)) if numbers else None

    def attempt(self, run_id: str, number: int) -> Attempt:
        """One attempt of a run; its owner is unknown where its claim is damaged."""
        folder = self.folder(run_id)
        try:
            owner, _ = _read_claim(folder / "attempts" / f"{number:04d}.json", run_id, number)
        except FileNotFoundError:
            return Attempt(run_id, number, folder, Owner.unknown(), "its claim was damaged and set aside")
        except StoreError as error:
            return Attempt(run_id, number, folder, Owner.unknown(), error.sentence)
        return Attempt(run_id, number, folder, owner)

    def damaged(self, run_id: str) -> str | None:
        """What is damaged, or was set aside, of a run, in one sentence; None where nothing is."""
        try:
            self.published(run_id)
        except StoreError as error:
            return error.sentence
        return self.damaged_beside_result(run_id)

    def damaged_beside_result(self, run_id: str) -> str | None:
        """`damaged`, for who has read the result."""
        folder = self.folder(run_id)
        try:
            if os.path.lexists(folder / "run.json"):
                _read_run(folder / "run.json", run_id)
        except StoreError as error:
            return error.sentence
        if links := [name for name in FOLDERS if (folder / name).is_symlink()]:
            return f"a symbolic link in place of a folder: {folder / links[0]}"
        newest = self.newest(run_id)
        if newest and newest.damaged:
            return f"attempt {newest.number}: {newest.damaged}"
        aside = [name for part in ("", "attempts", "checkpoints") for name in bad_records(folder / part)]
        return f"set aside in {folder}: {', '.join(aside)}" if aside else None

    def is_alive(self, attempt: Attempt, *, seen_by: Owner | None = None, job_active: JobActive | None = None) -> bool:
        """Whether a worker may still be on `attempt`: `liveness`, where doubt is life."""
        return self.liveness(attempt, seen_by=seen_by, job_active=job_active) not in DEAD

    def liveness(
        self, attempt: Attempt, *, seen_by: Owner | None = None, job_active: JobActive | None = None
    ) -> Liveness:
        """What is known of the worker of `attempt`; where nobody can be asked, its heartbeat.

        Args:
            attempt: the newest attempt of a run.
            seen_by: the process that asks: a later start of the same scheduler job knows that the earlier one is gone.
            job_active: asks the scheduler.
        """
        if os.path.lexists(attempt.error_path) or attempt.last_record().get("event") in ENDED:
            return "dead"
        alive = attempt.owner.alive()
        if alive is None and seen_by is not None and attempt.owner.succeeded_by(seen_by):
            alive = False
        if alive is None and job_active is not None and attempt.owner.job is not None:
            alive = job_active(attempt.owner.job)
        return self.pulse(attempt) if alive is None else "alive" if alive else "dead"

    def pulse(self, attempt: Attempt) -> Pulse:
        """The heartbeat of an attempt."""
        return self._heartbeats.pulse(attempt.metrics_path, attempt.claim_path)

    def claim(self, run_id: str, owner: Owner, *, job_active: JobActive | None = None) -> Attempt | None:
        """Make the next attempt ours, or None: there is a result, the newest attempt lives, or another was faster."""
        if self.has_result(run_id):
            return None
        newest = self.newest(run_id)
        if newest is not None and self.is_alive(newest, seen_by=owner, job_active=job_active):
            return None
        self.set_aside_damaged(run_id)
        number = newest.number + 1 if newest else 1
        attempt = Attempt(run_id, number, self.folder(run_id), owner)
        text = sealed({"attempt": number} | owner.to_json(), run_id=run_id)
        return attempt if create_exclusive(attempt.folder / "attempts" / f"{number:04d}.json", text) else None

    def has_result(self, run_id: str) -> bool:
        """True where nothing is left to train: a result is published, or one lies there that is not ours to judge."""
        try:
            return self.published(run_id) is not None
        except DamagedRecord:
            return False
        except StoreError:
            return True

    def publish(self, attempt: Attempt, result: Result) -> bool:
        """Publish the result of a run; False where another attempt has taken it over or published first.

        Raises:
            StoreError: the result is not one of this run.
        """
        run = self.run(attempt.run_id)
        if why := problem(result) or steps_problem(result, run):
            raise StoreError("this is no result of the run", where=str(attempt.folder), got=why)
        if not attempt.owns():
            return False
        document = {
            "attempt": attempt.number,
            "owner": attempt.owner.to_json(),
            "loss_unit": LOSS_UNIT,
            "planned_steps": run.steps,
            "result": result.to_json(),
        }
        return create_exclusive(attempt.folder / "result.json", sealed(document, run_id=attempt.run_id))

    def set_aside_damaged(self, run_id: str) -> list[str]:
        """Give every damaged record of a run, and every link in place of its folders, a name that ends in `.bad`; the
        names.
        """
        folder = self.folder(run_id)
        if self._set_aside_no_folder(run_id):  # a link to another run's folder: its records are not ours to judge
            return [folder.name]
        links = [folder / name for name in FOLDERS if (folder / name).is_symlink() or (folder / name).is_file()]
        moved = [set_aside(path, _refuse_what_is_no_folder) for path in links]
        try:
            self.published(run_id)
        except DamagedRecord:
            moved.append(set_aside(folder / "result.json", lambda path: self._read_result(path, run_id)))
        except StoreError:
            pass
        newest = self.newest(run_id)
        if newest is not None and newest.damaged is not None:
            claim, number = folder / "attempts" / f"{newest.number:04d}.json", newest.number
            moved.append(set_aside(claim, lambda path: _read_claim(path, run_id, number)))
        return [path.name for path in moved if path is not None]

    def add_evaluation(self, run_id: str, evaluation: SetLoss, *, data: str, data_hash: str) -> None:
        """Keep the loss of a finished run on one more set: the file or folder `data`, prepared as `data_hash`."""
        path = self.folder(run_id) / "evaluations" / f"{evaluation.name}-{data_hash}.json"
        write_atomic(path, sealed({"data": data, "data_hash": data_hash} | asdict(evaluation), run_id=run_id))

    def evaluations(self, run_id: str, *, say: Callable[[str], None] | None = None) -> list[SetLoss]:
        """What `add_evaluation` has kept of a run, the newest of each name. 0.1 wrote the name only into that of the
        file, before the data hash.

        Args:
            run_id: of a finished run.
            say: is told, in a sentence, which evaluation cannot be read and is left out.
        """
        paths = [p for p in plain_entries(self.folder(run_id) / "evaluations") if p.suffix == ".json"]
        result = {}
        for path in sorted(paths, key=lambda path: path.lstat().st_mtime_ns):
            try:
                values = read_record(path, run_id=run_id).values
                name = values.get("name") or path.stem.removesuffix(f"-{values['data_hash']}")
                result[name] = SetLoss(name, values["loss"], values["loss_se"], values["loss_per_byte"])
            except (StoreError, KeyError) as error:
                what = error.sentence if isinstance(error, StoreError) else f"{path} lacks {error}"
                if say is not None:
                    say(f"an evaluation is left out: {what}; `scaling evaluate` makes it again")
        return list(result.values())

    def retire(self, run_id: str) -> None:
        """Set a stale result aside (kept under `attempts/`), so that the run is trained again; its checkpoints and
        evaluations go.

        The caller holds the store's launch lock.
        """
        folder = self.folder(run_id)
        number = read_record(folder / "result.json", run_id=run_id).values["attempt"]
        for path in (*plain_entries(self.checkpoints(run_id)), *plain_entries(folder / "evaluations")):
            path.unlink()
        os.replace(folder / "result.json", folder / "attempts" / f"{number:04d}.stale.json")

    def _set_aside_no_folder(self, run_id: str) -> bool:
        """Set aside what lies in place of the run's folder; False where that is a folder, or nothing."""
        folder = self.folder(run_id)
        if not os.path.lexists(folder) or (folder.is_dir() and not folder.is_symlink()):
            return False
        return set_aside(folder, _refuse_what_is_no_folder) is not None

    def _read_result(self, path: Path, run_id: str) -> tuple[Result, Owner]:
        """The result at `path` and its owner. Raises as `published`, and FileNotFoundError."""
        record = read_record(path, run_id=run_id)
        document = record.values
        try:
            result, owner = Result.from_json(document["result"]), Owner.from_json(document["owner"])
            number, planned = int(document["attempt"]), document.get("planned_steps")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedRecord("the result is incomplete", where=str(path), got=str(error)) from None
        why = unit_problem(document) or problem(result)
        if why is None and record.format == 1:
            why = self._problem_of_format_1(run_id, number, owner, result)
        elif why is None and result.status == "completed" and result.steps != planned:
            why = f"completed after {result.steps} steps of {planned}"
        if why is not None:
            raise DamagedRecord("the result is not one of its run", where=str(path), got=why)
        return result, owner

    def _problem_of_format_1(self, run_id: str, number: int, owner: Owner, result: Result) -> str | None:
        """Why a result of 0.1, which carries no checksum, is not believed: docs/design.md, "The store and claims"."""
        claim = self.folder(run_id) / "attempts" / f"{number:04d}.json"
        try:
            run = self.run(run_id)
            claimed, version = _read_claim(claim, run_id, number)
        except FileNotFoundError:
            return f"there is no attempt {number}"
        except StoreError as error:
            return error.sentence
        if version != 1:
            return "it has no checksum, and its attempt has one"
        if claimed != owner:
            return f"its owner is not that of attempt {number}"
        return steps_problem(result, run) or flops_problem(result, run)


def _read_run(path: Path, run_id: str) -> Run:
    """The settings at `path`, which hash to `run_id`. Raises as `Store.run`, and FileNotFoundError."""
    try:
        settings = json.loads(record_bytes(path))
        run_id_now = id_of_settings(settings)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord("run.json is damaged", where=str(path), got=str(error)) from None
    if run_id_now != run_id:
        raise DamagedRecord("run.json does not hash to the name of its folder", where=str(path), got=run_id_now)
    try:
        return Run.from_settings(settings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NewerRecord("run.json cannot be read by this version", where=str(path), got=str(error)) from None


def _read_claim(path: Path, run_id: str, number: int) -> tuple[Owner, int]:
    """The owner of an attempt and the format of its file. Raises as `read_record`."""
    record = read_record(path, run_id=run_id)
    try:
        owner = Owner.from_json(record.values)
        why = owner.problem
    except TypeError as error:
        why = str(error)
    if why is not None:
        raise DamagedRecord("the attempt does not say who works on the run", where=str(path), got=why)
    if record.format > 1 and record.values.get("attempt") != number:
        raise DamagedRecord("this is another attempt", where=str(path), got=record.values.get("attempt"))
    return owner, record.format


def _refuse_what_is_no_folder(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        raise DamagedRecord("a link or a file in place of a folder", where=str(path))


def _is_metric(value: object) -> bool:
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
