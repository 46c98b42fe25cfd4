"""Restore: records that travelled go into a store, so that a launch finds their runs finished.

Every record is first checked as a store checks it, in a folder of its own. What a store has of a run is never changed:
a result there wins, and a run that has other attempts there is left to them. The attempt that published is restored
with the owner it had; its metrics, the curve where `curves.csv` has one, end with a record that names the file it was
imported from. Weights are not restored.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scaling.errors import DataError, ScalingError, StoreError
from scaling.files import create_exclusive, refuse_pipe
from scaling.results import curves
from scaling.results.records_file import RunRecords, document_text, read_document
from scaling.results.store import Store
from scaling.run import Result

_SECOND_NS = 10**9


@dataclass(frozen=True)
class Restored:
    """What became of the lines of a file: run ids that are new in the store, those of which it had the same result
    already, and why others could not be restored.
    """

    new: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    problems: list[ScalingError] = field(default_factory=list)


def restore(path: Path, store: Store) -> Restored:
    """Restore every run of a `records.jsonl`; a line that cannot be restored is named and the rest goes on.

    Args:
        path: the file; its `curves.csv` lies beside it, or is missing.
        store: where the runs go; its folder is made where it is missing.

    Raises:
        DataError: there is no such file, or it is no text.
        StoreError: the store cannot be written.
    """
    restored = Restored()
    lines = _lines(path)
    points = _points(path.with_name(curves.NAME), restored)
    try:
        store.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "name a folder that you can write to with --store"
        raise StoreError("the store cannot be written", where=str(store.path), got=str(error), hint=hint) from None
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        try:
            records = RunRecords.from_line(line, where)
            is_new = _restore_run(records, store, points.get(records.id, ()), where)
        except ScalingError as error:
            restored.problems.append(error)
        except OSError as error:
            hint = f"is {store.path} writable, and is there space? Then import again"
            restored.problems.append(StoreError("the run cannot be written", where=where, got=str(error), hint=hint))
        else:
            (restored.new if is_new else restored.present).append(records.id)
    return restored


def imported_from(store: Store, run_id: str) -> str | None:
    """The file that a run's newest attempt was imported from; None where it was trained in this store."""
    attempt = store.newest(run_id)
    source = attempt.last_record().get("imported") if attempt else None
    return None if source is None else str(source)


def _lines(path: Path) -> list[str]:
    try:
        refuse_pipe(path)
        return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, UnicodeDecodeError) as error:
        hint = "`scaling collect SWEEP --records` writes it where the runs were trained"
        raise DataError("the records cannot be read", where=str(path), got=str(error), hint=hint) from None


def _points(path: Path, restored: Restored) -> Mapping[str, Sequence[curves.Point]]:
    """The curves beside the records; where they are damaged that is a problem, and the results go without."""
    try:
        return curves.read_curves(path) if path.exists() else {}
    except DataError as error:
        restored.problems.append(error)
        return {}


def _restore_run(records: RunRecords, store: Store, points: Sequence[curves.Point], where: str) -> bool:
    """Write one run; False where the store has its result already. Raises StoreError."""
    result = _checked(records, where)
    _refuse_links(store, records.id)
    if (published := store.published(records.id)) is not None:
        kept, _ = published
        if _conclusion(kept) != _conclusion(result):
            raise StoreError(
                "the store has another result of this run, which is kept",
                where=where,
                got=f"{_words(result)}; in {store.folder(records.id)}: {_words(kept)}",
                allowed="the same result, or a store without this run",
                hint="name another store with --store",
            )
        _restore_evaluations(records, store)
        return False
    _refuse_other_attempts(records, store, where)
    _write(records, store, points, where)
    return True


def _checked(records: RunRecords, where: str) -> Result:
    """The result, after a store has read it back. Raises StoreError with the line."""
    with tempfile.TemporaryDirectory(prefix="scaling-import-") as folder:
        store = Store(Path(folder))
        for name, text in _files(records).items():
            path = store.folder(records.id) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        try:
            store.run(records.id)
            published = store.published(records.id)
            store.newest(records.id)
            store.evaluations(records.id)
        except (StoreError, KeyError, TypeError, ValueError) as error:
            reason = f"{error.what}: {error.got}" if isinstance(error, StoreError) else repr(error)
            raise _refused(records, where, reason) from None
    assert published is not None, "its result was written above"
    return published[0]


def _refused(records: RunRecords, where: str, reason: str) -> StoreError:
    what = f"the records of run {records.id} are damaged"
    hint = "take the file from where it was collected, or let `scaling launch` train the run"
    return StoreError(what, where=where, got=reason, allowed="records that a store can read", hint=hint)


def _files(records: RunRecords) -> dict[str, str]:
    """Name below the run's folder -> text, but for the evaluations in the order in which they may be written."""
    claims = {f"attempts/{n:04d}.json": claim for n, claim in enumerate(records.attempts, start=1) if claim}
    evaluations = {f"evaluations/{file}": record for file, record in records.evaluations}
    documents = {"run.json": records.run} | claims | evaluations | {"result.json": records.result}
    return {name: document_text(document) for name, document in documents.items()}


def _refuse_links(store: Store, run_id: str) -> None:
    folder = store.folder(run_id)
    for path in (folder, folder / "attempts", folder / "evaluations"):
        if path.is_symlink():
            what = "a symbolic link in place of a folder of the store is not followed"
            raise StoreError(what, where=str(path), hint="remove the link, and import again")


def _refuse_other_attempts(records: RunRecords, store: Store, where: str) -> None:
    """Refuse a run that somebody has started in this store."""
    newest = store.newest(records.id)
    if newest is None:
        return
    path = newest.folder / "attempts" / f"{newest.number:04d}.json"
    if newest.number > len(records.attempts) or read_document(path) != records.attempts[newest.number - 1]:
        raise StoreError(
            f"run {records.id} was started in this store",
            where=where,
            got=f"attempt {newest.number} on {newest.owner.host}: {path}",
            allowed="a store without attempts of its own at this run",
            hint=f"`scaling launch` trains it; or, where nobody works on it, move {newest.folder} away and import",
        )


def _write(records: RunRecords, store: Store, points: Sequence[curves.Point], where: str) -> None:
    """Write a run into its folder, the result last."""
    folder, texts = store.folder(records.id), _files(records)
    end = {"event": "completed", "step": records.result["result"]["steps"], "imported": where.rpartition(":")[0]}
    metrics = "".join([*curves.metrics_lines(points), json.dumps(end) + "\n"])
    create_exclusive(folder / "attempts" / f"{len(records.attempts):04d}.jsonl", metrics)
    _restore_evaluations(records, store)
    for name, text in texts.items():
        if not name.startswith("evaluations/"):
            create_exclusive(folder / name, text)


def _restore_evaluations(records: RunRecords, store: Store) -> None:
    """Write those that the store lacks, with times in their order, which is that of the columns of runs.csv."""
    now = time.time_ns()
    for age, (file, record) in enumerate(reversed(records.evaluations)):
        path = store.folder(records.id) / "evaluations" / file
        if create_exclusive(path, document_text(record)):
            os.utime(path, ns=(now, now - age * _SECOND_NS))


def _conclusion(result: Result) -> tuple[str, float | None, str]:
    return result.status, result.loss_nats, result.corpus_hash


def _words(result: Result) -> str:
    loss = "" if result.loss_nats is None else f" at {result.loss_nats!r} nats/token"
    return f"{result.status}{loss}, corpus {result.corpus_hash}"
