"""Which rows are kept, and why the others are not: asked for, unfinished, without a usable number, impossible."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from scaling.analysis.table.cells import is_missing, text_of
from scaling.analysis.table.decisions import DroppedRow
from scaling.analysis.table.expression import Mask, Values, rows_where
from scaling.analysis.table.raw import Cell, RawTable
from scaling.errors import DataError
from scaling.laws.points import Array

_UNFINISHED = {
    "crashed", "crash", "failed", "fail", "error", "killed", "running", "preempted", "preempting", "cancelled",
    "canceled", "diverged", "timeout", "oom", "pending", "queued", "interrupted", "aborted", "stopped",
}  # fmt: skip
_MOST_UNREADABLE = 0.5  # share of a column that may be texts before the column itself is wrong
_IMPOSSIBLE = 10.0  # a loss this factor below or above its neighbours; the corrupt ones met are a thousandth
_NEIGHBOURS = 5
_LARGEST = 1e36  # of N, D, C and everything else; a number beyond it is none that a run can have
_LEAST = 1e-9


def values_of(cells: Sequence[Cell], values: Array) -> Values:
    """A column for an expression: numbers where every cell is one or missing, 1 and 0 for truth values, else texts."""
    if all(np.isfinite(value) or is_missing(cell) for value, cell in zip(values, cells, strict=True)):
        return values
    if set(texts := [str(cell).strip().lower() for cell in cells]) <= {"true", "false"}:
        return np.array([text == "true" for text in texts], dtype=float)
    return np.array(["" if cell is None else str(cell).strip() for cell in cells], dtype=object)


def wanted(
    raw: RawTable, columns: Mapping[str, Values], where: str | None, exclude: Sequence[str], run: str | None
) -> Mask:
    """The rows that `--where` and `--exclude` keep [rows]; an exclusion is an expression, line numbers, or a run."""
    kept = np.ones(len(raw), dtype=bool)
    names = list(columns)
    folded = {name.lower(): name for name in reversed(names)}

    def column(name: str) -> Values | None:
        return columns.get(name, columns.get(folded.get(name.lower(), "")))

    if where is not None:
        kept &= rows_where(where, column, rows=len(raw), names=names, option="--where")
    for one in exclude:
        if re.fullmatch(r"\d+(\s*,\s*\d+)*", one.strip()):
            lines = {int(number) for number in one.split(",")}
            if absent := lines - set(raw.lines):
                missing = ", ".join(map(str, sorted(absent)))
                raise DataError(f"--exclude names line {missing}, which holds no row", where=raw.where)
            kept &= np.array([line not in lines for line in raw.lines], dtype=bool)
        elif run is not None and one in {str(cell) for cell in raw.columns[run]}:
            kept &= np.array([str(cell) != one for cell in raw.columns[run]], dtype=bool)
        else:
            kept &= ~rows_where(one, column, rows=len(raw), names=names, option="--exclude")
    if not kept.any():
        raise DataError(
            "--where and --exclude leave no row", where=raw.where, got=" ".join([where or "", *exclude]).strip()
        )
    return kept


def unfinished(raw: RawTable, state: str) -> list[tuple[int, DroppedRow]]:
    """Rows of runs that did not finish, by a column of states."""
    dropped = []
    for n, cell in enumerate(raw.columns[state]):
        if str(cell).strip().lower() in _UNFINISHED:
            dropped.append((n, DroppedRow(raw.lines[n], state, text_of(cell), "the run did not finish")))
    return dropped


def unusable(
    raw: RawTable, amounts: Mapping[str, Array], names: Mapping[str, str], needed: Sequence[str]
) -> list[tuple[int, DroppedRow]]:
    """Rows of which a number is missing, unreadable, not finite or not positive; each row once.

    Args:
        amounts: our name -> numbers [rows]; those of `needed` must be there, of the others no bad one may.
        names: our name -> the column they were read from.

    Raises:
        DataError: no row would be left, or most cells of a needed column are texts.
    """
    dropped: dict[int, DroppedRow] = {}
    for ours, values in amounts.items():
        cells = raw.columns[names[ours]]
        with np.errstate(invalid="ignore"):
            bad = np.flatnonzero(~((values >= _LEAST) & (values <= _LARGEST)))
        texts = 0
        for n in bad.tolist():
            reason = _reason(cells[n], float(values[n]))
            if reason == "a value is missing" and ours not in needed:
                continue
            texts += reason == "a value is not a number"
            dropped.setdefault(n, DroppedRow(raw.lines[n], names[ours], text_of(cells[n]), reason))
        if ours in needed and texts > _MOST_UNREADABLE * len(raw):
            raise _all_dropped(raw, dropped)
    if len(dropped) == len(raw):
        raise _all_dropped(raw, dropped)
    return sorted(dropped.items())


def is_size(value: float) -> bool:
    """Whether a number can be the size, the tokens or the FLOPs of a run."""
    return _LEAST <= value <= _LARGEST


def _all_dropped(raw: RawTable, dropped: Mapping[int, DroppedRow]) -> DataError:
    first = min(dropped)
    row = dropped[first]
    return DataError(
        row.reason,
        where=f"{raw.place(first)}: {row.column}",
        got=row.value or None,
        allowed="a finite positive number such as 50M, 1.3B, 2e9",
        hint=f"{len(dropped)} of {len(raw)} rows cannot be used; is another column meant? --columns, --loss, --unit",
    )


def _reason(cell: Cell, value: float) -> str:
    text = str(cell).strip().lower()
    if cell is None or text == "":
        return "a value is missing"
    if np.isinf(value) or is_missing(cell):
        return "a value is not finite"
    if np.isnan(value):
        return "a value is not a number"
    return "a value is not positive" if value <= 0 else "impossible: no run has such a number"


def impossible(params: Array, tokens: Array, loss: Array, lines: npt.NDArray[np.str_]) -> list[tuple[int, str]]:
    """(row, reason) of losses that are a tenth or ten times those of the nearest rows of their line."""
    dropped = []
    for line in np.unique(lines):
        rows = np.flatnonzero(lines == line)
        if len(rows) <= _NEIGHBOURS:
            continue
        place = np.log(np.stack([params[rows], tokens[rows]]))
        middle = np.median(loss[rows])
        suspects = np.flatnonzero((loss[rows] < middle / _IMPOSSIBLE) | (loss[rows] > middle * _IMPOSSIBLE))
        for n in suspects.tolist():
            distance = ((place - place[:, [n]]) ** 2).sum(axis=0)
            distance[n] = np.inf
            near = rows[np.argsort(distance, kind="stable")[:_NEIGHBOURS]]
            beside = float(np.median(loss[near]))
            if not beside / _IMPOSSIBLE < loss[rows[n]] < beside * _IMPOSSIBLE:
                dropped.append((int(rows[n]), f"impossible: the nearest rows have {beside:.3g} nats"))
    return sorted(dropped)
