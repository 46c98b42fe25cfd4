"""Records: JSON documents that carry a checksum.

A record names its format (`schema_version`) and its run (`run_id`), and its last key is a checksum over every byte
before it. What 0.1 wrote is format 1: no checksum, no run. A record that fails is damaged: `set_aside` gives it a name
that ends in `.bad`, so that a new one can take its place. A record of a later format is left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from scaling.errors import DamagedRecord, NewerRecord, StoreError
from scaling.files import JsonObject, fault, read_regular, to_json

FORMAT = 2
_KEY = b'"checksum": "'


@dataclass(frozen=True)
class Record:
    """What a record says; `format` 1 where it carries no checksum."""

    values: JsonObject
    format: int


def sealed(values: JsonObject, *, run_id: str | None = None, indent: int | None = 1) -> str:
    """The text of a record: `values`, its format, its run where it has one, and the checksum of all that."""
    owner = {} if run_id is None else {"run_id": run_id}
    head = to_json({"schema_version": FORMAT} | owner | values, indent=indent).rstrip()[:-1].rstrip()
    return f'{head},\n "checksum": "{_checksum(head.encode())}"\n}}\n'


def read_record(path: Path, *, run_id: str | None = None) -> Record:
    """The record at `path`, with its format, run and checksum checked; the caller checks its values.

    Args:
        path: where it lies; a symbolic link is not followed.
        run_id: the run it must be of; None: it belongs to no run.

    Raises:
        FileNotFoundError: as it is.
        DamagedRecord: it is cut, changed, no JSON, not finite, of another run, or no regular file.
        NewerRecord: a later version of scaling wrote it.
        StoreError: it cannot be read for another reason (its rights, an error of the disk).
    """
    data = record_bytes(path)
    try:
        values = _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise DamagedRecord("the record is damaged", where=str(path), got=_reason(data, error)) from None
    if not isinstance(values, dict):
        raise DamagedRecord("the record is damaged", where=str(path), got=f"a {type(values).__name__}, not an object")
    head, key, tail = data.rpartition(_KEY)
    if key and tail != f'{_checksum(head.rstrip().removesuffix(b","))}"\n}}\n'.encode():
        raise DamagedRecord("the record was changed after it was written", where=str(path), got="another checksum")
    version = values.pop("schema_version", 1)
    if isinstance(version, int) and version > FORMAT:
        raise NewerRecord(
            "a later version of scaling wrote this record", where=str(path), got=f"format {version}",
            allowed=f"format 1 to {FORMAT}", hint="use that version, or move the file away",
        )  # fmt: skip
    if version not in (1, FORMAT) or isinstance(version, bool) or (version == FORMAT) != bool(key):
        raise DamagedRecord("the record has no checksum of its format", where=str(path), got=f"format {version!r}")
    values.pop("checksum", None)
    owner = values.pop("run_id", None)
    if version == FORMAT and owner != run_id:
        raise DamagedRecord(
            "the record is of another run", where=str(path), got=f"run {owner}", allowed=f"run {run_id}"
        )
    return Record(values, version)


def record_bytes(path: Path, *, tail_bytes: int | None = None) -> bytes:
    """The bytes, or the last bytes, of a regular file in a folder that is no link. Raises as `read_record`."""
    try:
        if os.path.islink(os.path.dirname(path)):  # noqa: PTH114, PTH120  (read for every run: pathlib is slow)
            raise DamagedRecord("a folder of records is a symbolic link", where=str(path.parent))
        return read_regular(path, tail_bytes=tail_bytes)
    except FileNotFoundError:
        raise
    except OSError as error:
        if path.is_symlink() or not path.is_file():
            raise DamagedRecord("not a regular file", where=str(path), got=error.strerror or str(error)) from None
        raise StoreError("the record cannot be read", where=str(path), got=error.strerror or str(error)) from None


def set_aside(path: Path, check: Callable[[Path], object]) -> Path | None:
    """Rename a damaged record to a free name that ends in `.bad`, and return it; None where there is none by now.

    Another process may have put a good record in its place since it was read: then that goes back.

    Args:
        path: the record that its reader found damaged.
        check: reads a record and raises DamagedRecord.
    """
    target = next(name for name in _bad_names(path) if not os.path.lexists(name))
    fault(f"set aside {path.name}")
    try:
        path.rename(target)
    except FileNotFoundError:
        return None
    try:
        check(target)
    except DamagedRecord:
        return target
    except StoreError:  # not ours to judge
        pass
    with contextlib.suppress(FileExistsError):
        os.link(target, path)
    target.unlink()
    return None


def bad_records(folder: Path) -> list[str]:
    """The names of what was set aside in `folder`."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.endswith(".bad"))
    except OSError:
        return []


def _bad_names(path: Path) -> Iterator[Path]:
    yield path.with_name(f"{path.name}.bad")
    n = 2
    while True:
        yield path.with_name(f"{path.name}.{n}.bad")
        n += 1


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "an empty file"
    return "cut or not JSON" if isinstance(error, RecursionError) else f"{len(data)} bytes: {error}"
