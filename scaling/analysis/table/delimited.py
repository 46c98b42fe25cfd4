"""Text with separators: comma, semicolon, tab, bar or blanks; UTF-8 or UTF-16, with or without a byte order mark."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from scaling.analysis.table.header import are_numbers, header_in_comment, is_rule, joined_header, titles_above
from scaling.analysis.table.names import role_of
from scaling.analysis.table.raw import Cell, RawTable, unique_names
from scaling.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_SAMPLE = 20  # lines that choose the separator
_PROSE = 100_000  # characters in which a Markdown table begins
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
        DataError: no header, or a row with another number of cells than the header.
    """
    start = _start(text)
    if start.separator == " ":
        text = "\n".join("\t".join(line.split()) for line in text.splitlines())
    stream = io.StringIO(text, newline="")
    for _ in range(start.skipped):
        stream.readline()
    separator = "\t" if start.separator == " " else start.separator
    quote = "'" if start.single_quotes else '"'
    reader = csv.reader(stream, delimiter=separator, quotechar=quote, skipinitialspace=separator != "\t")
    try:
        table = _rows(reader, start, where)
    except csv.Error as error:
        line = start.skipped + reader.line_num
        raise DataError(f"the table cannot be read: {error}", where=f"{where}:{line}") from error
    table.decimal_comma = separator == ";"
    return table


def _header(reader: Iterator[list[str]], start: _Start, where: str) -> tuple[list[str], list[list[str]]]:
    """The names, and the rows that were read to find them."""
    header = next(reader, [])
    while header and not header[-1].strip():
        header.pop()  # a separator at the end of every line
    if are_numbers(header):
        if start.comment is not None and (names := header_in_comment(start.comment, len(header))):
            return names, [header]
        raise DataError(
            "the first line has numbers where the names of the columns belong",
            where=f"{where}:{start.skipped + 1}",
            got=", ".join(header),
            allowed="a first line such as params,tokens,loss",
        )
    below = next((row for row in reader if any(cell.strip() for cell in row) and not is_rule(row)), None)
    if below is None:
        return header, []
    joined = joined_header(header, below[: len(header)])
    return (joined, []) if joined else (header, [below])


def _rows(reader: Iterator[list[str]], start: _Start, where: str) -> RawTable:
    notes: list[str] = []
    header, first = _header(reader, start, where)
    names = unique_names(header, notes)
    columns: list[list[Cell]] = [[] for _ in names]
    lines: list[int] = []
    chunk: list[list[str]] = []

    def flush() -> None:
        for cells, more in zip(columns, zip(*chunk, strict=True), strict=True):
            cells.extend(more)
        chunk.clear()

    short: tuple[int, int] | None = None
    for row in chain(first, reader):
        if not (row and row[0]) and not any(cell.strip() for cell in row):
            continue
        line = start.skipped + reader.line_num  # type: ignore[attr-defined]
        if len(row) != len(names):
            if row[0].lstrip().startswith("#"):  # a comment between the rows
                continue
            if short is not None:
                raise _another_length(where, *short, len(names))
            if len(row) > len(names) and not any(cell.strip() for cell in row[len(names) :]):
                row = row[: len(names)]
            elif len(row) > len(names) or not lines:
                raise _another_length(where, line, len(row), len(names))
            else:
                short = (line, len(row))
                continue
        elif short is not None:
            raise _another_length(where, *short, len(names))
        chunk.append(row)
        lines.append(line)
        if len(chunk) == _CHUNK:
            flush()
    if chunk:
        flush()
    if short is not None:
        notes.append(f"the last row (line {short[0]}) is cut off, {short[1]} of {len(names)} cells: left out")
    table = dict(zip(names, columns, strict=True))
    for n, name in enumerate(header):  # the outer bars of a Markdown table
        if not name.strip() and not any(map(str.strip, columns[n])):  # type: ignore[arg-type]
            del table[names[n]]
    return RawTable(where, table, lines, notes=notes)


def _another_length(where: str, line: int, cells: int, wanted: int) -> DataError:
    return DataError(
        "a row has another number of cells than the header",
        where=f"{where}:{line}",
        got=f"{cells} cells",
        allowed=f"{wanted} cells",
        hint="put a text that holds a separator, or a number with a decimal comma, in quotation marks",
    )


@dataclass(frozen=True)
class _Start:
    """Where a table begins: lines before its header, the last comment among them, its separator (" ": blanks), and
    whether names stand in single quotation marks.
    """

    skipped: int
    comment: str | None
    separator: str
    single_quotes: bool = False


def _start(text: str) -> _Start:
    """Passes over empty lines, comments, ``sep=;`` and, where a Markdown table follows, prose."""
    skipped = 0
    declared: str | None = None
    comment: str | None = None
    sample: list[str] = []
    markdown = re.search(r"^\s*\|.*\|\s*\n\s*\|[\s:|-]+\|\s*$", text[:_PROSE], re.MULTILINE)
    for line in io.StringIO(text, newline=""):
        bare = line.strip()
        prose = markdown is not None and not bare.startswith("|")
        if not sample and (not bare or prose or bare.startswith("#") or bare.lower().startswith("sep=")):
            if bare.lower().startswith("sep="):
                declared = bare[4:5] or declared
            elif bare.startswith("#"):
                comment = bare
            skipped += 1
            continue
        sample.append(line)
        if len(sample) == _SAMPLE:
            break
    if markdown is not None:
        return _Start(skipped, comment, "|")
    titles = _titles(sample, declared)
    skipped, sample = skipped + titles, sample[titles:]
    best = max(SEPARATORS, key=lambda separator: _score(sample, separator))
    if declared is None and _score(sample, best) == (0, 0.0, 0) and _in_columns(sample):
        best = " "
    names = [cell.strip() for cell in (sample[0] if sample else "").split(declared or best)]
    single = len(names) > 1 and all(len(name) > 1 and name[0] == name[-1] == "'" for name in names)
    return _Start(skipped, comment, declared or best, single)


def _titles(sample: list[str], declared: str | None) -> int:
    """Lines above the header that hold one text, by the first separator that shows some."""
    separators = (declared,) if declared else SEPARATORS
    return next((n for sign in separators if (n := titles_above([line.split(sign) for line in sample]))), 0)


def _in_columns(sample: list[str]) -> bool:
    """Whether blanks cut every line into the same number of cells."""
    lengths = {len(line.split()) for line in sample if line.strip()}
    return len(lengths) == 1 and lengths.pop() > 1


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
