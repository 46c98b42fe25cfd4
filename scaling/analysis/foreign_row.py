"""A row of somebody else's table, and which columns a study of a table may name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scaling.rows import RunRow, columns_of

POINT_COLUMNS = ("weight", "factorized_params", "relative_rank", "unique_tokens", "unique_params")  # as in laws.Points
Setting = tuple[str, float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRow(RunRow):
    """A row of somebody else's table: N is `params` as the table counts it; the other columns are those of `Points`.

    Args:
        settings: what was tuned under names that are none of ours: ``(("bs", 512.0), ("warmup", 0.01))``.
    """

    params: float
    weight: float | None = None
    factorized_params: float | None = None
    relative_rank: float | None = None
    unique_tokens: float | None = None
    unique_params: float | None = None
    settings: tuple[Setting, ...] = ()


def column_names(rows: Sequence[RunRow]) -> list[str]:
    """The columns that a study of these rows may name: all of our own table, those with a value of a foreign one."""
    kind = type(rows[0])
    names = [name for name in columns_of(kind) if name != "settings"]
    return [name for name in names if kind is RunRow or any(getattr(row, name) is not None for row in rows)]
