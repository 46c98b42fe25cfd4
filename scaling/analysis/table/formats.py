"""Files to a raw table, by the end of the name in any case: text and JSON, each also as `.gz`, Parquet, Excel; a
folder or a glob is one table of all its files.
"""

from __future__ import annotations

import glob
import gzip
import zipfile
import zlib
from pathlib import Path

from scaling.analysis.table.delimited import decoded, read_delimited
from scaling.analysis.table.header import roles_of
from scaling.analysis.table.json_tables import flat, read_json, read_json_lines
from scaling.analysis.table.raw import Growing, RawTable, unique_names
from scaling.analysis.table.sheets import sheet_table
from scaling.errors import DataError

TEXT = (".csv", ".tsv", ".tab", ".dat", ".psv", ".txt", ".md")
LINES = (".jsonl", ".ndjson")
PACKED = (*TEXT, ".json", *LINES)  # read as `.gz` too
EXCEL = (".xlsx", ".xlsm", ".xls", ".ods")
KINDS = (*TEXT, ".json", *LINES, ".parquet", *EXCEL)


def read_raw(path: str | Path) -> RawTable:
    """The table of a file, of a folder (its runs.csv, or all its files), or of a glob such as ``runs/*.csv``.

    Raises:
        DataError: nothing is there, or something cannot be read.
    """
    path = Path(path)
    if path.is_dir() and (path / "runs.csv").is_file():
        return _read(path / "runs.csv")  # what `collect` writes beside other tables
    if path.is_dir():
        for pattern in ("*", "*/*"):  # a file for each run, or a folder for each
            if files := sorted(one for one in path.glob(pattern) if one.is_file() and _kind(one) in KINDS):
                break
        return _joined(path, files)
    if not path.exists() and glob.has_magic(str(path)):
        files = sorted(Path(one) for one in glob.glob(str(path), recursive=True))  # noqa: PTH207  absolute or not
        return _joined(path, [one for one in files if one.is_file()])
    if not path.is_file():
        allowed = "a .csv, .tsv, .json, .jsonl, .parquet or .xlsx file, a folder or glob of them, or a sweep"
        raise DataError("no such table", where=str(path), allowed=allowed)
    return _read(path)


def _kind(path: Path) -> str:
    name = Path(path.name.lower())
    inner = Path(name.stem).suffix
    return inner if name.suffix == ".gz" and inner in PACKED else name.suffix


def _read(path: Path) -> RawTable:
    kind, where = _kind(path), str(path)
    if kind not in KINDS:
        raise DataError("unknown kind of table", where=where, got=kind or path.name, allowed=", ".join(KINDS))
    if kind == ".parquet":
        return _read_parquet(path)
    if kind in EXCEL:
        return _read_excel(path)
    try:
        data = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the table cannot be read: {error}", where=where) from error
    text, notes = decoded(data, where)
    del data
    read = read_delimited if kind in TEXT else read_json if kind == ".json" else read_json_lines
    table = read(text, where)
    table.notes += notes
    return table


def _read_parquet(path: Path) -> RawTable:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        while any(pyarrow.types.is_struct(field.type) for field in table.schema):
            table = table.flatten()
        columns = [column.to_pylist() for column in table.columns]
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"not a Parquet file: {error}", where=str(path)) from error
    notes: list[str] = []
    names = unique_names(table.column_names, notes)
    return RawTable(str(path), dict(zip(names, columns, strict=True)), list(range(1, table.num_rows + 1)), notes=notes)


def _read_excel(path: Path) -> RawTable:
    """The sheet whose header says most; of equal ones the first."""
    import pandas

    try:
        sheets = pandas.read_excel(path, sheet_name=None, header=None, dtype=object)
    except ImportError as error:
        hint = "pip install openpyxl, or save the sheet as CSV"
        raise DataError(f"Excel files need one more package: {error}", where=str(path), hint=hint) from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"the table cannot be read: {error}", where=str(path), hint="save the sheet as CSV") from error
    tables = {
        name: sheet_table([list(row) for row in frame.astype(object).where(frame.notna(), None).to_numpy()], str(path))
        for name, frame in sheets.items()
    }
    best = max(tables, key=lambda name: roles_of(list(tables[name].columns)))
    if len(tables) > 1:
        tables[best].notes.append(f"sheet {best} of {len(tables)} is read")
    return tables[best]


def _joined(path: Path, files: list[Path]) -> RawTable:
    """All files as one table; a row knows its file, by which `--name-pattern` and the runs are named."""
    if not files:
        raise DataError("no table is there", where=str(path), allowed=f"files that end in {', '.join(KINDS)}")
    table = Growing()
    names: list[str] = []
    notes: dict[str, None] = {}
    for one in files:
        part = _read(one)
        notes |= dict.fromkeys(f"{one.name}: {note}" for note in part.notes)
        for n, line in enumerate(part.lines):
            table.add(line, flat({name: cells[n] for name, cells in part.columns.items()}))
            names.append(str(one))
    joined = table.table(str(path))
    joined.files = names
    joined.notes = [f"{len(files)} files are read as one table, one run each", *notes]
    return joined
