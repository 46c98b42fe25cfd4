"""Records that travel: the durable records of finished runs in one file, `results/<sweep>/records.jsonl`.

One JSON object a line, sorted by id; every record is as its file in the store has it, byte for byte once it is
indented again:

    {"format": 1, "id": "026af4234352701b", "run": run.json, "attempts": [attempts/0001.json, ...],
     "result": result.json, "evaluations": [{"file": "web-1f2e.json", "record": {...}}], "checksum": "..."}

`attempts` ends with the one that published; an earlier claim that cannot be read is null. The checksum is over the
line without it. Weights, checkpoints and error messages stay in the store.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from scaling.errors import StoreError
from scaling.files import JsonObject, read_regular, write_atomic
from scaling.results.status import RunStatus
from scaling.results.store import Store

NAME = "records.jsonl"
FORMAT = 1  # of a line
FINISHED = ("completed", "diverged")
_ID = re.compile(r"[0-9a-f]{16}")
_EVALUATION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\.json")
_Document = JsonObject


@dataclass(frozen=True)
class RunRecords:
    """The durable records of one finished run.

    Attributes:
        id: of the run.
        run: what `run.json` says.
        attempts: the claims 1 to n, None where an earlier one cannot be read; the last one published the result.
        result: what `result.json` says.
        evaluations: (file name, what it says), in the order in which they were made.
    """

    id: str
    run: _Document
    attempts: tuple[_Document | None, ...]
    result: _Document
    evaluations: tuple[tuple[str, _Document], ...]

    @classmethod
    def read(cls, store: Store, run_id: str) -> RunRecords:
        """The records of a finished run of a store. Raises StoreError where one cannot be read."""
        folder = store.folder(run_id)
        if folder.is_symlink():
            raise StoreError("a symbolic link in place of a run's folder is not followed", where=str(folder))
        result = read_document(folder / "result.json")
        number = result.get("attempt")
        if not isinstance(number, int) or number < 1:
            raise StoreError("result.json does not name its attempt", where=str(folder), got=number)
        claims = [folder / "attempts" / f"{n:04d}.json" for n in range(1, number + 1)]
        attempts = (*map(_readable, claims[:-1]), read_document(claims[-1]))
        return cls(run_id, read_document(folder / "run.json"), attempts, result, _evaluations(folder / "evaluations"))

    @classmethod
    def from_line(cls, line: str, where: str) -> RunRecords:
        """The records that `to_line` wrote. Raises StoreError where the line is damaged, or of a later format."""
        try:
            values = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise _damaged(where, str(error)) from None
        if not isinstance(values, dict):
            raise _damaged(where, f"a {type(values).__name__}, not an object")
        if isinstance(found := values.get("format"), int) and found > FORMAT:
            what, allowed = "a later version of scaling wrote this line", f"format {FORMAT}"
            raise StoreError(what, where=where, got=f"format {found}", allowed=allowed, hint="import with that version")
        if values.pop("checksum", None) != _checksum(values):
            raise _damaged(where, "another checksum: the line was changed after it was written")
        if problem := _problem(values):
            raise _damaged(where, problem)
        evaluations = tuple((one["file"], one["record"]) for one in values["evaluations"])
        return cls(values["id"], values["run"], tuple(values["attempts"]), values["result"], evaluations)

    def to_line(self) -> str:
        """One line of `records.jsonl`, without its end."""
        values = {
            "format": FORMAT,
            "id": self.id,
            "run": self.run,
            "attempts": self.attempts,
            "result": self.result,
            "evaluations": [{"file": file, "record": record} for file, record in self.evaluations],
        }
        return json.dumps(values | {"checksum": _checksum(values)}, allow_nan=False)


def write_records(folder: Path, runs: Sequence[RunStatus], store: Store) -> tuple[int, list[StoreError]]:
    """Write the records of the finished runs to `folder`/records.jsonl.

    Returns:
        How many runs it holds, and what of the others could not be read.
    """
    lines, problems = [], []
    for run_id in sorted({run.row.id for run in runs if run.status in FINISHED}):
        try:
            lines.append(RunRecords.read(store, run_id).to_line() + "\n")
        except StoreError as error:
            problems.append(error)
    write_atomic(folder / NAME, "".join(lines))
    return len(lines), problems


def document_text(document: _Document) -> str:
    """A record as the store writes it: keys in their order, since a checksum in it is over the bytes before it."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _evaluations(folder: Path) -> tuple[tuple[str, _Document], ...]:
    """Every evaluation, oldest first: the columns of runs.csv follow this order."""
    if folder.is_symlink():
        raise StoreError("a symbolic link in place of a folder is not followed", where=str(folder))
    paths = sorted(folder.glob("*.json"), key=lambda path: (path.lstat().st_mtime_ns, path.name))
    return tuple((path.name, read_document(path)) for path in paths)


def _readable(path: Path) -> _Document | None:
    try:
        return read_document(path)
    except StoreError:
        return None


def read_document(path: Path) -> _Document:
    """The object in a regular file. Raises StoreError."""
    if path.is_symlink() or path.parent.is_symlink():
        raise StoreError("a symbolic link in place of a record is not followed", where=str(path))
    try:
        values = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError("a record cannot be read", where=str(path), got=str(error)) from None
    if not isinstance(values, dict):
        raise StoreError("a record is not an object", where=str(path), got=type(values).__name__)
    return values


def _problem(values: _Document) -> str | None:
    """Why these are not the records of one run; what the records themselves say is checked by a `Store`."""
    if not isinstance(values.get("id"), str) or not _ID.fullmatch(values["id"]):
        return f"id {values.get('id')!r}, not 16 hex digits"
    if not all(isinstance(values.get(name), dict) for name in ("run", "result")):
        return "no run or no result"
    attempts, evaluations = values.get("attempts"), values.get("evaluations")
    if not isinstance(attempts, list) or not all(one is None or isinstance(one, dict) for one in attempts):
        return "no list of attempts"
    if not attempts or attempts[-1] is None or values["result"].get("attempt") != len(attempts):
        return "the attempt that published is missing"
    if not isinstance(evaluations, list) or not all(map(_is_evaluation, evaluations)):
        return "no list of evaluations"
    return None


def _is_evaluation(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("record"), dict):
        return False
    return isinstance(value.get("file"), str) and _EVALUATION.fullmatch(value["file"]) is not None


def _damaged(where: str, got: str) -> StoreError:
    hint = "take the file from where it was collected, or let `scaling launch` train the run"
    return StoreError("the line is damaged", where=where, got=got, allowed="a line of `collect --records`", hint=hint)


def _checksum(values: _Document) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")
