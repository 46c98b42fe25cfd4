"""The mark of imported runs in the tables of a report."""

from __future__ import annotations

from dataclasses import replace

from scaling.analysis.imports import share_imported
from scaling.analysis.study import Study
from scaling.report.table import Column, Table

_COLUMN = Column("imported", "imported")


def marked(table: Table, study: Study) -> Table:
    """The table with a column `imported` beside its lines, where a line has runs that were trained elsewhere."""
    shares = {line.name: share for line in study.lines if (share := share_imported(line))}
    place = next((n for n, column in enumerate(table.columns, 1) if column.name == "line"), None)
    if not shares or not table.rows:
        return table
    if place is None:
        told = "; ".join(f"{name} ({share})" for name, share in shares.items())
        return replace(table, note=f"{table.note} Imported runs: {told}.".strip())
    rows = tuple((*row[:place], shares.get(row[place - 1]), *row[place:]) for row in table.rows)
    return replace(table, columns=(*table.columns[:place], _COLUMN, *table.columns[place:]), rows=rows)
