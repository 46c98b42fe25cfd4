"""A sheet of a spreadsheet as a table: cells keep their types; titles, empty rows and headers of two rows are seen."""

from __future__ import annotations

from collections.abc import Sequence

from scaling.analysis.table.cells import is_missing
from scaling.analysis.table.header import joined_header, titles_above
from scaling.analysis.table.raw import Cell, RawTable, unique_names

_SAMPLE = 20  # rows that show where the header is


def sheet_table(cells: Sequence[Sequence[Cell]], where: str) -> RawTable:
    """The table of the cells of a sheet [rows][columns], None where one is empty."""
    filled = [(n, row) for n, row in enumerate(cells, 1) if not all(map(is_missing, row))]
    texts = [["" if cell is None else str(cell) for cell in row] for _, row in filled[:_SAMPLE]]
    first = titles_above(texts)
    notes: list[str] = []
    if len(texts) <= first:
        return RawTable(where, {}, [])
    header, below = texts[first], filled[first + 1 :]
    joined = joined_header(header, texts[first + 1]) if len(texts) > first + 1 else None
    if joined is not None:
        header, below = joined, below[1:]
    names = unique_names(header, notes)
    columns: dict[str, list[Cell]] = {name: [row[n] for _, row in below] for n, name in enumerate(names)}
    kept = {name: column for name, column in columns.items() if not all(map(is_missing, column))}
    return RawTable(where, kept, [n for n, _ in below], notes=notes)
