"""The header of a text with separators, where it is not simply the first line.

A second line below the names may hold units (``(M),(B),(nats)``), the lower level of pandas' column index, or the rule
of a Markdown table; a header may also stand in the last comment above the numbers, as NumPy writes it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from scaling.analysis.table.cells import is_missing, numbers
from scaling.analysis.table.names import LOSS_UNITS, role_of, unit_factor

_RULE = re.compile(r"\s*:?-+:?\s*")
_BRACKETS = "()[] "


def is_rule(row: Sequence[str]) -> bool:
    """Whether a row is the line of dashes below the header of a Markdown table."""
    cells = [cell for cell in row if cell.strip()]
    return bool(cells) and all(_RULE.fullmatch(cell) for cell in cells)


def are_numbers(row: Sequence[str]) -> bool:
    """Whether every cell of a row is a number, which no header has."""
    return bool(row) and all(_is_number(cell) for cell in row)


def joined_header(names: Sequence[str], below: Sequence[str]) -> list[str] | None:
    """The header of two lines as one; None where the second line is a row of the table.

    Args:
        names: the first line.
        below: the second line.
    """
    if len(below) != len(names) or any(_is_number(cell) for cell in below) or all(map(is_missing, below)):
        return None
    filled = [cell.strip(_BRACKETS) for cell in below if cell.strip()]
    if all(unit_factor(cell) is not None or cell.lower() in LOSS_UNITS for cell in filled):
        units = [cell.strip(_BRACKETS) for cell in below]
        return [f"{name} ({unit})" if unit else name for name, unit in zip(names, units, strict=True)]
    groups: list[str] = []
    for name in names:  # pandas repeats the name of a group; a spreadsheet leaves merged cells empty
        groups.append(name.strip() or (groups[-1] if groups else ""))
    both = [".".join(part for part in (group, cell.strip()) if part) for group, cell in zip(groups, below, strict=True)]
    return both if roles_of(both) > roles_of(names) and len(set(both)) == len(both) else None


def header_in_comment(comment: str, cells: int) -> list[str] | None:
    """The names in a comment above rows of `cells` numbers, ``# params tokens loss``; None where it holds none."""
    text = comment.strip().lstrip("#% ")
    for names in (re.split(r"\s*[,;\t|]\s*", text), text.split()):
        if len(names) == cells and roles_of(names):
            return names
    return None


def titles_above(rows: Sequence[Sequence[str]]) -> int:
    """How many rows above the header hold one text, where every row after them holds more cells."""
    filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
    first = next((n for n, cells in enumerate(filled) if cells > 1), 0)
    if not 0 < first < len(rows) - 1 or min(cells for cells in filled[first:] if cells) < 2:
        return 0
    return first if roles_of([*rows[first], *rows[first + 1]]) else 0


def roles_of(names: Sequence[str]) -> int:
    """How many different quantities are recognised among some names."""
    return len({role for name in names if (role := role_of(name)) is not None})


def _is_number(cell: str) -> bool:
    return bool(numbers([cell]).values[0] == numbers([cell]).values[0])
