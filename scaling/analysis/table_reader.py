"""Tables of finished trainings, ours or somebody else's, as rows.

Ours come from `results/<sweep>/runs.csv` and are `RunRow`s. A foreign table needs `params`, `tokens` and `loss`, and
may have `family`, `rank_ratio`, `flops`, `budget`, `seed`, the columns that a law or a weighted fit reads, and any
column of ours. CSV, JSON lines and Parquet are read to the same rows; a value that no law could use is an error that
names the file, the row and the column.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import DataError
from scaling.rows import COLUMNS, RunRow, checked_row, columns_of, is_runs_table, read_csv, run_row

REQUIRED = ("params", "tokens", "loss")
POINT_COLUMNS = ("weight", "factorized_params", "relative_rank", "unique_tokens", "unique_params")  # as in laws.Points
OPTIONAL = ("family", "rank_ratio", "flops", "budget", "seed", *POINT_COLUMNS)
_READERS = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRow(RunRow):
    """A row of somebody else's table: N is `params` as the table counts it; the other columns are those of `Points`."""

    params: float
    weight: float | None = None
    factorized_params: float | None = None
    relative_rank: float | None = None
    unique_tokens: float | None = None
    unique_params: float | None = None


def read_table(path: str | Path, *, columns: Mapping[str, str] | None = None) -> Sequence[RunRow]:
    """The rows of a table: `RunRow`s of our own, `ForeignRow`s of any other.

    Args:
        path: a `.csv`, `.jsonl` or `.parquet` file.
        columns: our name -> the file's name, for tables that call them otherwise.

    Raises:
        DataError: the file is missing or unreadable, a column is missing, or a value cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such table", where=str(path), allowed="a .csv, .jsonl or .parquet file, or a sweep")
    lines = list(_read(path))
    if not lines:
        raise DataError("the table has no rows", where=str(path))
    if columns:
        _check_columns(path, lines[0][1], columns)
        lines = [(number, _renamed(values, columns)) for number, values in lines]
    header = lines[0][1]
    ours = is_runs_table(header)
    if missing := [name for name in (("tokens", "loss", "params_total") if ours else REQUIRED) if name not in header]:
        raise DataError(
            f"the table has no column {', '.join(missing)}",
            where=str(path),
            got=", ".join(header),
            allowed=f"{', '.join(REQUIRED)}, and optionally {', '.join(OPTIONAL)}",
            hint="rename the columns in the file, or pass --columns params=NAME,tokens=NAME,loss=NAME",
        )
    if ours:
        return [run_row(f"{path}:{number}", values) for number, values in lines]
    return [checked_row(ForeignRow, f"{path}:{number}", values, needed=REQUIRED) for number, values in lines]


def column_names(rows: Sequence[RunRow]) -> list[str]:
    """The columns that a study of these rows may name: all of our own table, those with a value of a foreign one."""
    kind = type(rows[0])
    names = columns_of(kind)
    return [name for name in names if kind is RunRow or any(getattr(row, name) is not None for row in rows)]


def _check_columns(path: Path, header: Iterable[str], columns: Mapping[str, str]) -> None:
    """Refuses names that are not ours, and names that are not the file's."""
    known = dict.fromkeys((*REQUIRED, *OPTIONAL, *COLUMNS))
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise DataError(
            f"--columns gives a name to {', '.join(unknown)}, which no table has",
            where=str(path),
            got=", ".join(f"{ours}={theirs}" for ours, theirs in columns.items()),
            allowed=f"{', '.join((*REQUIRED, *OPTIONAL))} on the left of each =",
        )
    absent = [theirs for theirs in columns.values() if theirs not in header]
    if absent:
        raise DataError(
            f"--columns names {', '.join(absent)}, which the table does not have",
            where=str(path),
            allowed=f"one of {', '.join(header)} on the right of each =",
        )


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row under our names; a column of the file that has one of our names without being chosen is left out."""
    kept = {name: value for name, value in row.items() if name not in columns and name not in columns.values()}
    return kept | {ours: row.get(theirs) for ours, theirs in columns.items()}


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number for people, row), before any check."""
    try:
        if path.suffix == ".csv":
            yield from read_csv(path)
        elif path.suffix == ".jsonl":
            yield from _read_json_lines(path)
        elif path.suffix == ".parquet":
            yield from _read_parquet(path)
        else:
            raise DataError("unknown kind of table", where=str(path), got=path.suffix, allowed=", ".join(_READERS))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the table cannot be read: {error}", where=str(path)) from error


def _read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"not JSON: {error.msg}", where=f"{path}:{number}", got=line.strip()) from error
            if not isinstance(row, dict):
                raise DataError(
                    "a row is not an object", where=f"{path}:{number}", got=row, allowed='{"params": 1e8, ...}'
                )
            yield number, row


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"not a Parquet file: {error}", where=str(path)) from error
    yield from enumerate(table.to_pylist(), 1)
