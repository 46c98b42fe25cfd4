"""Exports of trackers and names of runs: where the sizes of a run do not stand in columns of their own.

The chart export of W&B has a column for each run, ``run-name - eval/loss`` with ``__MIN`` and ``__MAX`` beside it, and
the steps as rows. It becomes one row for each run and step. A pattern such as ``(?P<params>\\d+M)-(?P<mult>\\d+)xC``
reads columns from the names of runs or files.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from scaling.analysis.table.cells import is_missing
from scaling.analysis.table.names import role_of
from scaling.analysis.table.raw import Cell, RawTable
from scaling.errors import DataError

_RUN_METRIC = re.compile(r"(.+) - (.+?)(__MIN|__MAX)?")


def unfolded(raw: RawTable) -> RawTable:
    """A chart export as one row for each run and step; any other table as it is."""
    parts = {name: match for name in raw.columns if (match := _RUN_METRIC.fullmatch(name))}
    if (
        not parts
        or not any(match[3] for match in parts.values())
        or any(role_of(name) == "params" for name in raw.columns)
    ):
        return raw
    shared = [name for name in raw.columns if name not in parts]
    runs = list(dict.fromkeys(match[1] for match in parts.values()))
    metrics = list(dict.fromkeys(match[2] for match in parts.values() if not match[3]))
    columns: dict[str, list[Cell]] = {name: [] for name in ("run", *shared, *metrics)}
    lines = []
    for run in runs:
        theirs = {metric: raw.columns.get(f"{run} - {metric}") for metric in metrics}
        for n, line in enumerate(raw.lines):
            cells = {metric: None if column is None else column[n] for metric, column in theirs.items()}
            if all(is_missing(cell) for cell in cells.values()):
                continue
            columns["run"].append(run)
            for name in shared:
                columns[name].append(raw.columns[name][n])
            for metric, cell in cells.items():
                columns[metric].append(cell)
            lines.append(line)
    note = f"a chart export of {len(runs)} runs: a column for each run becomes the column run"
    return RawTable(raw.where, columns, lines, notes=[*raw.notes, note])


def with_names_read(raw: RawTable, pattern: str | None) -> RawTable:
    """The columns that `pattern` reads from the names of runs (from those of the files, where there are several).

    Raises:
        DataError: the pattern is no regular expression, names no column or one there is, or a name does not match.
    """
    run = next((name for name in raw.columns if role_of(name) == "run"), None)
    if raw.files is not None and run is None:
        raw.columns["run"] = [_stem(file) for file in raw.files]
    if pattern is None:
        return raw
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--name-pattern is no regular expression: {error}", got=pattern) from error
    if not compiled.groupindex:
        raise DataError("--name-pattern names no column", got=pattern, allowed=r"groups such as (?P<params>\d+M)")
    if both := set(compiled.groupindex) & set(raw.columns):
        raise DataError(
            "--name-pattern reads a column that the table has", where=raw.where, got=", ".join(sorted(both))
        )
    if raw.files is not None:
        names = [_stem(file) for file in raw.files]
    elif run is not None:
        names = [str(cell) for cell in raw.columns[run]]
    else:
        names = [_stem(raw.where)] * len(raw)
    groups: dict[str, dict[str, str | None]] = {}
    for n, name in enumerate(names):
        if name not in groups:
            match = compiled.search(name)
            if match is None:
                raise DataError("a name does not match --name-pattern", where=raw.place(n), got=name, allowed=pattern)
            groups[name] = match.groupdict()
    for group in compiled.groupindex:
        raw.columns[group] = [groups[name][group] for name in names]
    return raw


def _stem(file: str) -> str:
    return PurePath(PurePath(file).name.removesuffix(".gz")).stem
