"""Launches: what was asked for, frozen, so that every later verb speaks of the same runs.

    <root>/.scaling/launches/<sweep>/<n>.json
    <root>/.scaling/launches/<sweep>/<n>/        its work list, and the files of its scheduler

A launch holds the text of the sweep and of the runner, the store, the plan's rows with every resolved number, the
hash of the prepared corpus and the version of the code. It is written once; launch n + 1 is made exclusively, like
an attempt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.checks import Check
from scaling.errors import ScalingError
from scaling.files import create_exclusive, read_json, to_json
from scaling.rows import DroppedCell, PlanRow

SCHEMA_VERSION = 1  # of launch files
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

    def to_json(self) -> dict[str, Any]:
        """The launch as its file holds it."""
        lists = {name: [one.to_json() for one in getattr(self, name)] for name in _LISTS}
        return {"schema_version": SCHEMA_VERSION, **vars(self), **lists}

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
    """Write the next launch of `fields["sweep"]` and return it."""
    folder = launches_folder(root, fields["sweep"])
    while True:
        launch = Launch(number=max(_numbers(folder), default=0) + 1, **fields)
        if create_exclusive(folder / f"{launch.number}.json", to_json(launch.to_json(), indent=None)):
            return launch


def last_launch(root: Path, sweep: str) -> Launch | None:
    """The newest launch of a sweep, None where it was never launched."""
    folder = launches_folder(root, sweep)
    numbers = _numbers(folder)
    return read_launch(folder / f"{max(numbers)}.json") if numbers else None


def all_launches(root: Path, sweep: str) -> list[Launch]:
    """Every launch of a sweep, oldest first."""
    folder = launches_folder(root, sweep)
    return [read_launch(folder / f"{n}.json") for n in sorted(_numbers(folder))]


def read_launch(path: Path) -> Launch:
    """Read one launch file. Raises ScalingError where it is of another schema."""
    values = read_json(path)
    if values.pop("schema_version", None) != SCHEMA_VERSION:
        raise ScalingError("launch file of another version", where=str(path), hint="scaling launch SWEEP --replan")
    return Launch(**values | {name: tuple(map(read, values[name])) for name, read in _LISTS.items()})


_LISTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "rows": PlanRow.from_json,
    "dropped": DroppedCell.from_json,
    "plan_checks": Check.from_json,
}


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


def _numbers(folder: Path) -> list[int]:
    return [int(p.stem) for p in folder.glob("*.json") if p.stem.isdigit()]
