"""Launches: the runs of a sweep, frozen, so that every later command uses the same runs.

    <root>/.scaling/launches/<sweep>/<n>.json
    <root>/.scaling/launches/<sweep>/<n>/        its work list, and the files of its scheduler

A launch holds the text of the sweep and of the runner, the store, the plan's rows with every resolved number, the
hash of the prepared corpus and the version of the code. It is written once; launch n + 1 is made exclusively, like
an attempt.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from scaling.checks import Check
from scaling.errors import DamagedRecord, NewerRecord, StoreError
from scaling.files import JsonObject, create_exclusive, plain_entries
from scaling.records import read_record, sealed, set_aside
from scaling.rows import DroppedCell, PlanRow

_FILE = re.compile(r"(\d+)\.json(\.(\d+\.)?bad)?")
_SWEEP = re.compile(r"-\d+(?=-[0-9a-f]{4}$)")  # the number in a launch's name


@dataclass(frozen=True)
class Launch:
    """One frozen plan and where it runs; `rows` with their settings, in plan order."""

    number: int
    sweep: str
    sweep_text: str
    runner: str
    runner_text: str
    store: str
    corpus_hash: str
    code_version: str
    created: str  # UTC, ISO 8601
    rows: tuple[PlanRow, ...]
    dropped: tuple[DroppedCell, ...] = ()
    plan_checks: tuple[Check, ...] = ()
    store_id: str | None = None  # of the store that was launched on; launches of 0.1 did not ask

    def to_json(self) -> JsonObject:
        """The launch as its file holds it."""
        lists = {name: [one.to_json() for one in getattr(self, name)] for name in _LISTS}
        return vars(self) | lists

    @property
    def ids(self) -> list[str]:
        """Run ids in plan order."""
        return [row.id for row in self.rows]


def launches_folder(root: Path, sweep: str) -> Path:
    """Where the launches of a sweep are kept."""
    return root / ".scaling" / "launches" / sweep


def worklist_path(launch: Path) -> Path:
    """The list that workers of the launch file `launch` go through; `launch` writes it anew each time it is called."""
    return launch.with_suffix("") / "worklist.json"


def freeze(root: Path, **fields: Any) -> Launch:
    """Write the next launch of `fields["sweep"]` and return it. Its file is for its owner alone: a runner text may hold
    what nobody else should read.
    """
    while True:
        launch = Launch(number=next_number(root, fields["sweep"]), **fields)
        path = launches_folder(root, launch.sweep) / f"{launch.number}.json"
        if create_exclusive(path, sealed(launch.to_json(), indent=None), mode=0o600):
            return launch


def last_launch(root: Path, sweep: str) -> Launch | None:
    """The newest launch of a sweep that is not damaged, None where there is none.

    Raises:
        NewerRecord: a later version wrote it.
        StoreError: it cannot be read.
    """
    return next(_readable(root, sweep), None)


def all_launches(root: Path, sweep: str) -> list[Launch]:
    """Every launch of a sweep that is not damaged, oldest first. Raises as `last_launch`."""
    return list(_readable(root, sweep))[::-1]


def damaged_launches(root: Path, sweep: str) -> list[str]:
    """What is wrong with the launch files after the newest that can be read, one sentence each."""
    damaged = []
    for path in _files(root, sweep):
        try:
            read_launch(path)
        except DamagedRecord as error:
            damaged.append(error.sentence)
        else:
            break
    return damaged


def set_aside_damaged(root: Path, sweep: str) -> None:
    """Give damaged launch files a name that ends in `.bad`; the next launch calls this."""
    for path in _files(root, sweep):
        try:
            read_launch(path)
        except DamagedRecord:
            set_aside(path, read_launch)


def next_number(root: Path, sweep: str) -> int:
    """The number of the next launch; those of damaged ones are not used again."""
    names = (_FILE.fullmatch(path.name) for path in plain_entries(launches_folder(root, sweep)))
    return max((int(name[1]) for name in names if name), default=0) + 1


def read_launch(path: Path) -> Launch:
    """Read one launch file. It is written once, so a process parses it once.

    Raises:
        DamagedRecord: it is cut, changed, or lacks something.
        NewerRecord: a later version wrote it.
        StoreError: it cannot be read.
    """
    try:
        info = os.lstat(path)
    except OSError:
        return _parse_launch(path)
    return _parsed_launch(path, info.st_ino, info.st_mtime_ns, info.st_size)


@functools.lru_cache(maxsize=4)
def _parsed_launch(path: Path, inode: int, modified_ns: int, size: int) -> Launch:
    return _parse_launch(path)


def _parse_launch(path: Path) -> Launch:
    try:
        values = read_record(path).values
        launch = Launch(**values | {name: tuple(map(read, values[name])) for name, read in _LISTS.items()})
        if wrong := [name for name, kinds in _KINDS.items() if not isinstance(values.get(name), kinds)]:
            raise TypeError(f"{wrong[0]}: {values.get(wrong[0])!r}")
        return launch
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedRecord("the launch file is damaged", where=str(path), got=str(error)) from None
    except (DamagedRecord, NewerRecord):
        raise
    except StoreError as error:
        hint = f"a launch is readable by whoever launched: ask them for `chmod g+r {path}`"
        raise StoreError(error.what, where=error.where, got=error.got, hint=hint) from None


_KINDS: dict[str, type | tuple[type, ...]] = {"number": int, "store_id": (str, NoneType)}
_KINDS |= dict.fromkeys(("sweep", "sweep_text", "runner", "runner_text", "store", "corpus_hash", "code_version"), str)
_LISTS: dict[str, Callable[[JsonObject], object]] = {
    "rows": PlanRow.from_json,
    "dropped": DroppedCell.from_json,
    "plan_checks": Check.from_json,
}


def _readable(root: Path, sweep: str) -> Iterator[Launch]:
    for path in _files(root, sweep):
        with contextlib.suppress(DamagedRecord):
            yield read_launch(path)


def _files(root: Path, sweep: str) -> list[Path]:
    """The launch files of a sweep, the newest first."""
    paths = (p for p in plain_entries(launches_folder(root, sweep)) if p.suffix == ".json" and p.stem.isdigit())
    return sorted(paths, key=lambda path: -int(path.stem))


def launch_name(sweep: str, number: int, *, root: Path, store: Path) -> str:
    """``quickstart-3-9f2c``: readable, safe in a shell and in a file name, another one for every root and store.

    Args:
        sweep: the sweep's name; whatever is not a letter, digit, dot, dash or underscore becomes an underscore.
        number: of the launch.
        root: whose `.scaling/launches` numbered it; people who share a store have their own.
        store: where the runs lie; an intention is looked up by a name that no other store's job has.
    """
    digest = hashlib.sha256(f"{root.resolve()}\0{store.resolve()}\0{sweep}".encode()).hexdigest()[:4]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', sweep)[:40]}-{number}-{digest}"


def same_sweep(launch: str, other: str) -> bool:
    """True where two launch names differ in the number only: the same sweep of the same root."""
    return _SWEEP.sub("", launch) == _SWEEP.sub("", other)
