"""A table before any meaning: named columns of cells as the file has them, and where each row stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

Cell = object  # str, int, float, bool, None, or what else a file holds


@dataclass
class RawTable:
    """Columns of equal length.

    Args:
        where: the file, folder or glob.
        columns: name -> cells.
        lines: of each row, its line in the file (the entry, where the file has no lines).
        files: of each row, the file it is from, where there are several; for names of runs, without the suffix.
        notes: what reading decided, as sentences.
        decimal_comma: whether the separator of the file suggests that numbers have decimal commas.
    """

    where: str
    columns: dict[str, list[Cell]]
    lines: list[int]
    files: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    decimal_comma: bool = False

    def __len__(self) -> int:
        return len(self.lines)

    def select(self, rows: Sequence[int]) -> RawTable:
        """The rows at `rows`, in that order."""
        columns = {name: [cells[n] for n in rows] for name, cells in self.columns.items()}
        files = None if self.files is None else [self.files[n] for n in rows]
        return RawTable(self.where, columns, [self.lines[n] for n in rows], files, self.notes, self.decimal_comma)

    def place(self, row: int) -> str:
        """Where row number `row` of this table stands: ``table.csv:12``."""
        return f"{self.where if self.files is None else self.files[row]}:{self.lines[row]}"


class Growing:
    """Columns that grow by objects of which each may lack a key or have a new one."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Cell]] = {}
        self.lines: list[int] = []

    def add(self, line: int, values: Mapping[str, Cell]) -> None:
        """One more row."""
        before = len(self.lines)
        for name, value in values.items():
            cells = self.columns.setdefault(name, [])
            if len(cells) < before:
                cells.extend([None] * (before - len(cells)))
            cells.append(value)
        self.lines.append(line)

    def table(self, where: str) -> RawTable:
        """The rows so far; what a row lacked is None."""
        for cells in self.columns.values():
            cells.extend([None] * (len(self.lines) - len(cells)))
        return RawTable(where, self.columns, self.lines)


def unique_names(header: Iterable[object], notes: list[str]) -> list[str]:
    """The names of a header; a column without one is called by its place, a second one of a name gets a number."""
    names: list[str] = []
    for n, cell in enumerate(header, 1):
        name = str(cell).strip() or f"column {n}"
        if name in names:
            again = next(f"{name}.{k}" for k in count(1) if f"{name}.{k}" not in names)
            notes.append(f"column {name} appears twice; the later one is called {again}")
            name = again
        names.append(name)
    return names
