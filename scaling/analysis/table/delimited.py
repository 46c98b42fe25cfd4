"""Text with separators: comma, semicolon, tab or bar; UTF-8 or UTF-16, with or without a byte order mark."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator

from scaling.analysis.table.names import role_of
from scaling.analysis.table.raw import Cell, RawTable, unique_names
from scaling.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_SAMPLE = 20  # lines that choose the separator
_CHUNK = 20_000  # rows that become columns at once: lists of cells take much more memory


def decoded(data: bytes, where: str) -> tuple[str, list[str]]:
    """The text of a file, and a note where its bytes are no Unicode: they are read as Windows-1252, which has the same
    digits and signs.

    Raises:
        DataError: the bytes are no text.
    """
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return _strict(data, name, where), []
    if b"\0" in data[:64]:  # UTF-16 of a table without a mark: every second byte of a letter is zero
        return _strict(data, "utf-16-be" if data[:1] == b"\0" else "utf-16-le", where), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), ["the file is not UTF-8; it was read as Windows-1252"]


def _strict(data: bytes, name: str, where: str) -> str:
    try:
        text = data.decode(name)
    except UnicodeDecodeError as error:
        raise DataError(f"the table cannot be read: {error}", where=where) from error
    return text.removeprefix("\ufeff")


def read_delimited(text: str, where: str) -> RawTable:
    """The table of a text. A last row that is cut off is left out; any other row of another length is an error.

    Raises:
        DataError: no header, a name twice, or a row with another number of cells than the header.
    """
    skipped, separator = _start(text)
    stream = io.StringIO(text, newline="")
    for _ in range(skipped):
        stream.readline()
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=separator != "\t")
    try:
        table = _rows(reader, skipped, where)
    except csv.Error as error:
        raise DataError(f"the table cannot be read: {error}", where=f"{where}:{skipped + reader.line_num}") from error
    table.decimal_comma = separator == ";"
    return table


def _rows(reader: Iterator[list[str]], skipped: int, where: str) -> RawTable:
    header = next(reader, [])
    while header and not header[-1].strip():
        header.pop()  # a separator at the end of every line
    names = unique_names(header, f"{where}:{skipped + 1}")
    if names and all(_is_number(name) for name in header):
        raise DataError(
            "the first line has numbers where the names of the columns belong",
            where=f"{where}:{skipped + 1}",
            got=", ".join(header),
            allowed="a first line such as params,tokens,loss",
        )
    columns: list[list[Cell]] = [[] for _ in names]
    lines: list[int] = []
    notes: list[str] = []
    chunk: list[list[str]] = []

    def flush() -> None:
        for cells, more in zip(columns, zip(*chunk, strict=True), strict=True):
            cells.extend(more)
        chunk.clear()

    short: tuple[int, int] | None = None
    for row in reader:
        if not (row and row[0]) and not any(cell.strip() for cell in row):
            continue
        line = skipped + reader.line_num  # type: ignore[attr-defined]
        if short is not None:
            raise _another_length(where, *short, len(names))
        if len(row) != len(names):
            if len(row) > len(names) and not any(cell.strip() for cell in row[len(names) :]):
                row = row[: len(names)]
            elif len(row) > len(names) or not lines:
                raise _another_length(where, line, len(row), len(names))
            else:
                short = (line, len(row))
                continue
        chunk.append(row)
        lines.append(line)
        if len(chunk) == _CHUNK:
            flush()
    if chunk:
        flush()
    if short is not None:
        notes.append(f"the last row (line {short[0]}) is cut off, {short[1]} of {len(names)} cells: left out")
    return RawTable(where, dict(zip(names, columns, strict=True)), lines, notes=notes)


def _another_length(where: str, line: int, cells: int, wanted: int) -> DataError:
    return DataError(
        "a row has another number of cells than the header",
        where=f"{where}:{line}",
        got=f"{cells} cells",
        allowed=f"{wanted} cells",
        hint="put a text that holds a separator, or a number with a decimal comma, in quotation marks",
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _start(text: str) -> tuple[int, str]:
    """Lines before the header (empty ones, comments, ``sep=;``), and the separator."""
    skipped = 0
    declared: str | None = None
    sample: list[str] = []
    for line in io.StringIO(text, newline=""):
        bare = line.strip()
        if not sample and (not bare or bare.startswith("#") or bare.lower().startswith("sep=")):
            if bare.lower().startswith("sep="):
                declared = bare[4:5] or declared
            skipped += 1
            continue
        sample.append(line)
        if len(sample) == _SAMPLE:
            break
    return skipped, declared or max(SEPARATORS, key=lambda separator: _score(sample, separator))


def _score(sample: list[str], separator: str) -> tuple[int, float, int]:
    """How well a separator explains some lines: names it gives, rows as long as the header, number of columns."""
    try:
        rows = [row for row in csv.reader(sample, delimiter=separator, skipinitialspace=True) if row]
    except csv.Error:
        return 0, 0.0, 0
    if not rows or len(rows[0]) == 1:
        return 0, 0.0, 0
    recognised = sum(role_of(name) is not None for name in rows[0])
    return recognised, sum(len(row) == len(rows[0]) for row in rows) / len(rows), len(rows[0])
