"""Tables of finished trainings, ours or somebody else's, as rows.

Ours come from `results/<sweep>/runs.csv` and are `RunRow`s. A foreign table has columns for the size, the tokens (or
the FLOPs) and the loss, under the names and in the units that its authors chose; `analysis.table` recognises them,
and `TableReport` says everything that was decided. What is ambiguous is asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.analysis.foreign_row import POINT_COLUMNS as POINT_COLUMNS
from scaling.analysis.foreign_row import ForeignRow as ForeignRow
from scaling.analysis.foreign_row import column_names as column_names
from scaling.analysis.table.cells import numbers
from scaling.analysis.table.columns import check_chosen
from scaling.analysis.table.decisions import TableReport
from scaling.analysis.table.exports import unfolded, with_names_read, with_sizes_of_names
from scaling.analysis.table.formats import read_raw
from scaling.analysis.table.keeping import values_of, wanted
from scaling.analysis.table.raw import RawTable
from scaling.analysis.table.reading import Reading, TableOptions
from scaling.errors import DataError
from scaling.rows import RunRow, is_runs_table, run_row


@dataclass(frozen=True)
class LoadedTable:
    """The rows of a table, and how it was read."""

    rows: Sequence[RunRow]
    report: TableReport


def read_table(path: str | Path, *, columns: Mapping[str, str] | None = None) -> Sequence[RunRow]:
    """The rows of a table: `RunRow`s of our own, `ForeignRow`s of any other.

    Args:
        path: a file that `load_table` reads.
        columns: our name -> the file's name, where it is not recognised.

    Raises:
        DataError: the file is missing or unreadable, a column is missing or ambiguous, or no row can be used.
    """
    return load_table(path, TableOptions(columns=columns or {})).rows


def load_table(path: str | Path, options: TableOptions | None = None) -> LoadedTable:
    """The rows of a table with everything that reading it decided.

    Args:
        path: CSV with any separator, JSON, JSON lines, Parquet or Excel; a folder or a glob of them.
        options: what the table does not say itself.

    Raises:
        DataError: as `read_table`.
    """
    return rows_of_raw(raw_table(path, options), options)


def raw_table(path: str | Path, options: TableOptions | None = None) -> RawTable:
    """The table of a file before its columns are recognised, with those that the names of runs hold.

    Raises:
        DataError: the file is missing or unreadable, or has no rows.
    """
    raw = with_names_read(unfolded(read_raw(path)), None if options is None else options.name_pattern)
    if not len(raw):
        raise DataError("the table has no rows", where=str(path))
    return raw if options is not None and "params" in options.columns else with_sizes_of_names(raw)


def rows_of_raw(raw: RawTable, options: TableOptions | None = None) -> LoadedTable:
    """The second half of `load_table`: columns, units and rows of a raw table. Raises DataError."""
    options = options or TableOptions()
    if is_runs_table(raw.columns):
        return _own(raw, options)
    rows, report = Reading(raw, options).read()
    return LoadedTable(rows, report)


def _own(raw: RawTable, options: TableOptions) -> LoadedTable:
    """A table that `collect` wrote, whose names and units are ours."""
    if options.units or options.last_per:
        raise DataError(
            "a table of ours has our units and a row for each run", where=raw.where, got="--unit or --last-per"
        )
    chosen = dict(options.columns) | ({"loss": options.loss} if options.loss else {})
    check_chosen(raw, chosen)
    for ours, theirs in chosen.items():
        raw.columns[ours] = raw.columns[theirs]
    if missing := [name for name in ("tokens", "loss", "params_total") if name not in raw.columns]:
        raise DataError(f"the table has no column {', '.join(missing)}", where=raw.where, got=", ".join(raw.columns))
    notes = list(raw.notes)
    if options.where is not None or options.exclude:
        columns = {name: values_of(cells, numbers(cells).values) for name, cells in raw.columns.items()}
        kept = wanted(raw, columns, options.where, options.exclude, "id")
        notes.append(f"--where and --exclude keep {int(kept.sum())} of {len(kept)} rows")
        raw = raw.select([n for n, keep in enumerate(kept.tolist()) if keep])
    names = list(raw.columns)
    rows = [
        run_row(raw.place(n), dict(zip(names, cells, strict=True)))
        for n, cells in enumerate(zip(*raw.columns.values(), strict=True))
    ]
    mapping = {name: chosen.get(name, name) for name in ("tokens", "loss")}
    return LoadedTable(rows, TableReport(raw.where, mapping, {}, notes=tuple(notes)))
