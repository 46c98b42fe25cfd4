"""Rows: a table of finished trainings, ours or somebody else's.

A row is a dictionary. Ours come from `results/<sweep>/runs.csv` and have a status and three parameter counts. A
foreign table needs `params`, `tokens` and `loss`, and may have `family`, `rank_ratio`, `flops`, `budget`, `seed` and
the columns that a law or a weighted fit reads. CSV, JSON lines and Parquet are read to the same rows; a value that no
law could use is an error that names the file, the row and the column.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scaling.errors import DataError
from scaling.results.collect import COLUMNS

Row = dict[str, Any]

REQUIRED = ("params", "tokens", "loss")
POINT_COLUMNS = ("weight", "factorized_params", "relative_rank", "unique_tokens", "unique_params")  # as in laws.Points
OPTIONAL = ("family", "rank_ratio", "flops", "budget", "seed", *POINT_COLUMNS)
_TEXTS = {
    "id",
    "family",
    "line",
    "parameterization",
    "optimizer",
    "cell",
    "trunk",
    "status",
    "device",
    "torch_version",
    "corpus_hash",
}
_READERS = (".csv", ".jsonl", ".parquet")


def read_table(path: str | Path, *, columns: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of a table; numbers as floats (whole ones as ints), None where a cell is empty.

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
        lines = [(number, _renamed(row, columns)) for number, row in lines]
    header = lines[0][1]
    ours = is_runs_table(header)
    missing = [name for name in (*REQUIRED[1:], "params_total") if name not in header] if ours else _missing(header)
    if missing:
        raise DataError(
            f"the table has no column {', '.join(missing)}",
            where=str(path),
            got=", ".join(header),
            allowed=f"{', '.join(REQUIRED)}, and optionally {', '.join(OPTIONAL)}",
            hint="rename the columns in the file, or pass --columns params=NAME,tokens=NAME,loss=NAME",
        )
    kept = COLUMNS if ours else (*REQUIRED, *OPTIONAL, *(name for name in COLUMNS if name in header))
    return [_row(f"{path}:{number}", row, dict.fromkeys(kept), ours=ours) for number, row in lines]


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


def _renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """The row under our names; a column of the file that has one of our names without being chosen is left out."""
    kept = {name: value for name, value in row.items() if name not in columns and name not in columns.values()}
    return kept | {ours: row.get(theirs) for ours, theirs in columns.items()}


def is_runs_table(header: Iterable[str]) -> bool:
    """Whether these are the columns of our own `runs.csv`."""
    return {"id", "line", "status", "params_matmul"} <= set(header)


def _missing(header: Iterable[str]) -> list[str]:
    return [name for name in REQUIRED if name not in set(header)]


def _read(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number for people, row), before any check."""
    try:
        if path.suffix == ".csv":
            yield from _read_csv(path)
        elif path.suffix == ".jsonl":
            yield from _read_json_lines(path)
        elif path.suffix == ".parquet":
            yield from _read_parquet(path)
        else:
            raise DataError("unknown kind of table", where=str(path), got=path.suffix, allowed=", ".join(_READERS))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the table cannot be read: {error}", where=str(path)) from error


def _read_csv(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        header = [str(name).strip() for name in reader.fieldnames or ()]
        if len(set(header)) < len(header):
            twice = sorted({name for name in header if header.count(name) > 1})
            raise DataError(
                "a column appears twice", where=f"{path}:1", got=", ".join(twice), allowed="every column once"
            )
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    "a row has another number of cells than the header",
                    where=f"{path}:{reader.line_num}",
                    allowed=f"{len(header)} cells",
                )
            yield reader.line_num, dict(zip(header, row.values(), strict=True))


def _read_json_lines(path: Path) -> Iterator[tuple[int, Row]]:
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


def _read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"not a Parquet file: {error}", where=str(path)) from error
    yield from enumerate(table.to_pylist(), 1)


def _row(where: str, row: Row, empty: Row, *, ours: bool) -> Row:
    """One checked row. A run of ours without a result may have an empty loss; a foreign row may not."""
    values = {name: _value(f"{where}: {name}", name, row.get(name)) for name in empty}
    completed = not ours or values["status"] == "completed"
    needed = ("tokens", "params_total", *(("loss",) if completed else ())) if ours else REQUIRED
    for name in needed:
        if values[name] is None:
            raise DataError("a value is missing", where=f"{where}: {name}", allowed="a positive number")
    for name in (
        "params",
        "tokens",
        "loss",
        "flops",
        "budget",
        "params_total",
        "params_non_embedding",
        "params_matmul",
    ):
        if values.get(name) is not None and not values[name] > 0:
            raise DataError(
                "a value is not positive", where=f"{where}: {name}", got=values[name], allowed="a finite number above 0"
            )
    return values


def _value(where: str, name: str, value: object) -> Any:
    if value is None or value == "" or (isinstance(value, str) and not value.strip()):
        return None
    if name in _TEXTS:
        return str(value).strip()
    number = _number(value)
    if number is None:
        raise DataError("a value is not a number", where=where, got=str(value), allowed="a finite number")
    if name == "rank_ratio" and math.isnan(number):  # how data frames write "dense"
        return None
    if not math.isfinite(number):
        raise DataError("a value is not finite", where=where, got=str(value), allowed="a finite number")
    return int(number) if number == int(number) and abs(number) < 2**53 else number


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
