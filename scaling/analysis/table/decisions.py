"""Everything that reading a table decided, as values: printed by `fit` in a few lines, and `table` in its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scaling.files import JsonObject

_SHOWN = 5  # left-out rows on the terminal; --json has all


@dataclass(frozen=True)
class DroppedRow:
    """A row that was left out: its line in the file, the column and value that say why."""

    row: int
    column: str
    value: str
    reason: str


@dataclass(frozen=True)
class TableReport:
    """What was decided.

    Args:
        where: the file, folder or glob.
        mapping: our name -> the column it was read from, or how it was computed.
        units: column of the file -> the unit it was read in.
        dropped: rows left out.
        notes: sentences for a person.
    """

    where: str
    mapping: Mapping[str, str]
    units: Mapping[str, str]
    dropped: tuple[DroppedRow, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """The key `table` of `fit --json`."""
        return {
            "mapping": dict(self.mapping),
            "units": dict(self.units),
            "dropped": [{"row": d.row, "column": d.column, "value": d.value, "reason": d.reason} for d in self.dropped],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The same in words: the mapping with its units in one line, then what was left out, then the notes."""
        return [f"columns: {self.columns_text}", *self._left_out(), *(f"note: {note}" for note in self.notes)]

    @property
    def columns_text(self) -> str:
        """The mapping with its units: ``params = N, tokens = D (× 1e+09, from its name)``."""
        return ", ".join(f"{ours} = {theirs}{self._unit(theirs)}" for ours, theirs in self.mapping.items())

    def _unit(self, column: str) -> str:
        return f" ({self.units[column]})" if column in self.units else ""

    def _left_out(self) -> Iterator[str]:
        if self.dropped:
            first = "; ".join(_row_text(row) for row in self.dropped[:_SHOWN])
            more = f"; and {len(self.dropped) - _SHOWN} more (--json lists all)" if len(self.dropped) > _SHOWN else ""
            rows = "1 row is" if len(self.dropped) == 1 else f"{len(self.dropped)} rows are"
            yield f"{rows} left out: {first}{more}"


def _row_text(row: DroppedRow) -> str:
    value = f" {row.value}" if row.value else ""
    column = f", {row.column}{value}" if row.column else ""
    return f"line {row.row}{column}: {row.reason}"
