"""Exports of trackers and names of runs: where the sizes of a run do not stand in columns of their own.

The chart export of W&B has a column for each run, ``run-name - eval/loss`` with ``__MIN`` and ``__MAX`` beside it, and
the steps as rows. It becomes one row for each run and step. A pattern such as ``(?P<params>\\d+M)-(?P<mult>\\d+)xC``
reads columns from the names of runs or files.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from scaling.analysis.table.cells import is_missing
from scaling.analysis.table.json_tables import flat
from scaling.analysis.table.names import COUNTS, role_of
from scaling.analysis.table.raw import Cell, RawTable
from scaling.errors import DataError

_TALL = 200  # quantities of a table that stands on its side
_NOT_A_NUMBER = re.compile(r"(?<=[\s:\[(])(nan|inf|-inf)(?=\s*[,}\])])")  # as Python writes them; no literals
_SIZE = re.compile(r"(?<![\w.])\d+(?:\.\d+)?[KMBkmb](?![a-zA-Z0-9])")  # 410m in pythia-410m-deduped
_RUN_METRIC = re.compile(r"(.+) - (.+?)(__MIN|__MAX)?")


def unfolded(raw: RawTable) -> RawTable:
    """A table with a row for each run: of a chart export, of columns that hold whole configurations, of a table whose
    rows are the quantities; any other table as it is.
    """
    return _upright(_flattened(_chart(raw)))


def _flattened(raw: RawTable) -> RawTable:
    """Columns of objects, ``{'params': 1e8, 'lr': 0.01}`` in JSON or as Python writes them, as columns of their own."""
    columns: dict[str, list[Cell]] = {}
    for name, cells in raw.columns.items():
        first = next((cell for cell in cells if not is_missing(cell)), None)
        objects = [] if _object(first) is None else [_object(cell) for cell in cells]
        if not objects or any(one is None and not is_missing(cell) for one, cell in zip(objects, cells, strict=True)):
            columns[name] = cells
            continue
        rows = [{} if one is None else flat(one, f"{name}.") for one in objects]
        for key in dict.fromkeys(key for row in rows for key in row):
            columns[key] = [row.get(key) for row in rows]
    return replace(raw, columns=columns)


def _object(cell: Cell) -> Mapping[str, Cell] | None:
    if not isinstance(cell, str) or not (cell.lstrip().startswith("{") and cell.rstrip().endswith("}")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(_NOT_A_NUMBER.sub("None", cell) if read is ast.literal_eval else cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict):
            return {str(key): one for key, one in value.items()}
    return None


def _upright(raw: RawTable) -> RawTable:
    """A table whose first column names the quantities, with a column for each run, turned."""
    names = list(raw.columns)
    sizes = {"params", "tokens", "flops", "budget", "loss", *COUNTS}
    if len(names) < 3 or sizes & {role_of(name) for name in names}:
        return raw
    titles = [str(cell).strip() for cell in raw.columns[names[0]]]
    if len(sizes & {role_of(title) for title in titles}) < 3 or len(set(titles)) < len(titles) or len(titles) > _TALL:
        return raw
    columns: dict[str, list[Cell]] = {"run": [*names[1:]]}
    columns |= {title: [raw.columns[name][n] for name in names[1:]] for n, title in enumerate(titles)}
    note = f"the rows are quantities and the columns runs: {names[0]} holds the names"
    return RawTable(raw.where, columns, list(range(2, len(names) + 1)), notes=[*raw.notes, note])


def _chart(raw: RawTable) -> RawTable:
    """A chart export as one row for each run and step."""
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
        raw.columns["run"] = [*_names_of(raw.files)]
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
        names = _names_of(raw.files)
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


def with_sizes_of_names(raw: RawTable) -> RawTable:
    """A column params from the names of models, ``pythia-410m``, where the table has no other sizes and every name
    holds one.
    """
    roles = {role_of(name) for name in raw.columns}
    if {"params", *COUNTS} & roles or ("tokens" in roles and {"flops", "budget"} & roles):
        return raw
    for name in (name for name in raw.columns if role_of(name) == "run"):
        sizes = [_SIZE.findall(str(cell)) for cell in raw.columns[name]]
        if sizes and all(len(one) == 1 for one in sizes):
            raw.columns["params"] = [one[0] for one in sizes]
            raw.notes.append(f"the table has no sizes: params are read from the names in {name}")
            return raw
    return raw


def _names_of(files: Sequence[str]) -> list[str]:
    """The names of runs by their files, or by their folders where all files have one name."""
    stems = [_stem(file) for file in files]
    folders = [PurePath(file).parent.name for file in files]
    return folders if len(set(stems)) == 1 and len(set(folders)) > 1 else stems


def _stem(file: str) -> str:
    return PurePath(PurePath(file).name.removesuffix(".gz")).stem
