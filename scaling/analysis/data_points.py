"""Cells: which runs become data points, and why the others do not.

A cell is one (line, budget or token multiple, shape). Runs of a cell that differ only in the seed are all data
points: together they give the seed noise. Where a hyperparameter was tuned over, one setting is kept
(`laws.tuning_bias`), and the runs of the others stay with the cell: every bootstrap draw chooses again. A row
that is no data point is listed with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from scaling.analysis.table_reader import ForeignRow, column_names
from scaling.errors import DataError
from scaling.laws.points import Points
from scaling.laws.tuning_bias import Selection, Trials, choose
from scaling.optimizers import TUNABLE
from scaling.rows import RunRow
from scaling.run import Shape

_SETTING = (*TUNABLE, "optimizer", "steps")


@dataclass(frozen=True)
class Cell:
    """The runs of one line, budget and shape that are data points; they differ in nothing but the seed.

    Args:
        label: budget and shape without the line: equal labels pair the cells of two lines.
        params, tokens, flops: N in the study's convention, D, training FLOPs spent (None: unknown).
        settings: how many settings were tried; the best of several is biased low.
        trials: every run of the cell with its id, those of the settings that lost too.
        shift: nats added to the runs' losses, to the bottom of a parabola through the settings.
    """

    line: str
    label: str
    params: float
    tokens: float
    flops: float | None
    budget: float | None
    rows: tuple[RunRow, ...] = field(repr=False)
    names: tuple[str, ...]
    settings: int = 1
    trials: tuple[RunRow, ...] = field(default=(), repr=False)
    shift: float = 0.0

    @cached_property
    def losses(self) -> tuple[float, ...]:
        """The loss of every run, nats per token."""
        return tuple(row.final_loss + self.shift for row in self.rows)

    @property
    def loss(self) -> float:
        """Mean over seeds, nats per token."""
        return math.fsum(self.losses) / len(self.losses)

    @property
    def row(self) -> RunRow:
        """The first run, for everything that the runs of a cell share."""
        return self.rows[0]

    @property
    def shape(self) -> str | None:
        """``d32 L2``; None in a table without shapes."""
        layers, width = self.row.layers, self.row.width
        return None if layers is None or width is None else f"d{width} L{layers}"


@dataclass(frozen=True)
class DroppedRun:
    """A run that is no data point, and why; `unwanted` where the analysis itself leaves it out."""

    run: str
    line: str
    reason: str
    unwanted: bool = False


@dataclass(frozen=True)
class Gathered:
    """The cells of a table in the order of its lines, and the runs left out."""

    cells: tuple[Cell, ...]
    dropped: tuple[DroppedRun, ...]

    @cached_property
    def lines(self) -> dict[str, list[Cell]]:
        """Cells by line, lines in order of first appearance."""
        lines: dict[str, list[Cell]] = {}
        for cell in self.cells:
            lines.setdefault(cell.line, []).append(cell)
        return lines


def line_name(row: RunRow) -> str:
    """`dense`, `low_rank@0.25`; `all` in a table that names no family."""
    if row.line:
        return row.line
    family = row.family or "all"
    return family if row.rank_ratio is None else f"{family}@{row.rank_ratio:g}"


def gather(
    rows: Sequence[RunRow],
    *,
    params_column: str,
    flops_column: str | None,
    where: Mapping[str, float | None],
    exclude: Mapping[str, str],
) -> Gathered:
    """The cells of `rows`, and the runs left out with their reasons.

    Args:
        params_column: which count is N (`params` in a foreign table).
        flops_column: `flops` or `flops_6nd`; None where the table has no FLOPs.
        where: `min_<column>` and `max_<column>`; `params` means N.
        exclude: run id -> reason.

    Raises:
        DataError: a column that is asked for is not there, or an excluded run does not exist.
    """
    bounds = {name: bound for name, bound in where.items() if bound is not None}
    named = {row.id or f"row {n}": row for n, row in enumerate(rows, 1)}
    _check_names(named, params_column, bounds, exclude)
    kept: dict[tuple[str, str], list[tuple[str, RunRow]]] = {}
    dropped = []
    for name, row in named.items():
        excluded, filtered = _excluded(name, exclude), _filtered(row, bounds, params_column)
        reason = excluded or _unusable(row, params_column) or filtered
        if reason:
            dropped.append(DroppedRun(name, line_name(row), reason, unwanted=bool(excluded or filtered)))
        else:
            kept.setdefault((line_name(row), row.cell or _label(row, params_column)), []).append((name, row))
    cells = []
    for members in kept.values():
        cell, losers = _cell(members, params_column, flops_column)
        cells.append(cell)
        dropped += losers
    order = {line: n for n, line in enumerate(dict.fromkeys(line_name(row) for row in rows))}
    cells.sort(key=lambda cell: (order[cell.line], cell.budget or 0.0, cell.params, cell.tokens))
    return Gathered(tuple(cells), tuple(dropped))


def _check_names(
    named: Mapping[str, RunRow], params_column: str, where: Iterable[str], exclude: Mapping[str, str]
) -> None:
    columns = column_names(list(named.values())) if named else []
    for name in (params_column, *map(_column, where)):
        if name not in columns and name != "params":
            raise DataError("the table has no such column", got=name, allowed=", ".join(columns))
    unknown = [run for run in exclude if run not in named]
    if unknown:
        raise DataError(
            "an excluded run is not in the table", where="analysis.exclude", got=", ".join(unknown), allowed="a run id"
        )


def _column(bound: str) -> str:
    return bound.removeprefix("min_").removeprefix("max_")


def _excluded(name: str, exclude: Mapping[str, str]) -> str | None:
    return f"excluded: {exclude[name]}" if name in exclude else None


def _unusable(row: RunRow, params_column: str) -> str | None:
    if not row.completed:
        return row.status
    return f"no {params_column}" if row.number(params_column) is None else None


def _filtered(row: RunRow, bounds: Mapping[str, float], params_column: str) -> str | None:
    for name, bound in bounds.items():
        column = params_column if _column(name) == "params" else _column(name)
        value = row.number(column)
        if value is None or (value < bound if name.startswith("min_") else value > bound):
            shown = "unknown" if value is None else f"{value:g}"
            return f"{column} is {shown}, and the analysis has {name}: {bound:g}"
    return None


def _label(row: RunRow, params_column: str) -> str:
    """Budget (or tokens) and shape (or N), without the line."""
    spent = f"D {row.tokens:g}" if row.budget is None else f"C {row.budget:g}"
    if None in (row.layers, row.width, row.heads, row.ff_width, row.vocab_size):
        # Without a shape, equal N at one budget still differ in D: several horizons of one model.
        distinct = row.unique_tokens if isinstance(row, ForeignRow) else None
        unique = "" if distinct is None else f", of {distinct:g} distinct"
        return f"{spent}, N {row.number(params_column):g}, D {row.tokens:g}{unique}"
    return shaped_label(spent, row)


def shaped_label(spent: str, one: RunRow | Shape) -> str:
    """The label of a cell, ``C 2e+10`` or ``D 160000`` and a shape."""
    shared = f", key-value heads {one.kv_heads}" if one.kv_heads not in (None, one.heads) else ""
    tied = ", tied" if one.tied else ""
    return f"{spent}, layers {one.layers}, width {one.width}, heads {one.heads}, ff {one.ff_width}{shared}{tied}"


def setting_value(row: RunRow, name: str) -> object:
    """A hyperparameter of a run; in a foreign table it may have a name that none of ours has."""
    if isinstance(row, ForeignRow) and (value := dict(row.settings).get(name)) is not None:
        return value
    return getattr(row, name, None)


def setting(row: RunRow, names: Iterable[str]) -> str:
    """The hyperparameters `names` of a run: ``lr 0.02, weight_decay 0.1``."""
    told = ((name, setting_value(row, name)) for name in names)
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, (int, float)) else f"{name} {value}" for name, value in told
    )


def tuned_names(rows: Sequence[RunRow]) -> list[str]:
    """The hyperparameters in which the runs of a cell differ; steps follow from the batch."""
    foreign = (name for row in rows if isinstance(row, ForeignRow) for name, _ in row.settings)
    every = dict.fromkeys((*_SETTING, *foreign))
    varied = [name for name in every if len(rows) > 1 and len({setting_value(row, name) for row in rows}) > 1]
    return [name for name in varied if name != "steps" or "batch_tokens" not in varied]


def trials_of(cells: Sequence[tuple[str, Sequence[RunRow]]]) -> Trials:
    """All runs of some cells, (label, rows) each, as `laws.tuning_bias` reads them."""
    settings, values = [], []
    for _, rows in cells:
        names = tuned_names(rows)
        settings += [setting(row, names) for row in rows]
        values += [setting_value(row, names[0]) if len(names) == 1 else None for row in rows]
    runs = [(label, row) for label, rows in cells for row in rows]
    seeds = [row.seed for _, row in runs]
    points = Points(
        params=np.array([row.tokens for _, row in runs]),  # the choice looks at losses alone
        tokens=np.array([row.tokens for _, row in runs]),
        loss=np.array([row.final_loss for _, row in runs]),
        line=np.array([line_name(row) for _, row in runs]),
        cell=np.array([label for label, _ in runs]),
        seed=None if None in seeds else np.array([str(seed) for seed in seeds]),
    )
    numbers = [float(value) if isinstance(value, (int, float)) else math.nan for value in values]
    return Trials(points, np.array(settings), np.array(numbers))


def _cell(
    members: Sequence[tuple[str, RunRow]], params_column: str, flops_column: str | None
) -> tuple[Cell, list[DroppedRun]]:
    """The cell of some runs; runs of the settings that lost are dropped with that reason."""
    rows = tuple(row for _, row in members)
    names = tuned_names(rows)
    choice = choose(trials_of([("", rows)]))[1][0] if len(rows) > 1 else Selection.of_one("", rows[0].final_loss)
    won = [setting(row, names) == choice.setting for row in rows]
    best = [member for member, kept in zip(members, won, strict=True) if kept]
    first = best[0][1]
    params = first.number(params_column)
    assert params is not None, "rows without N are dropped"
    flops = first.number(flops_column) if flops_column else None
    cell = Cell(
        line=line_name(first),
        label=_label(first, params_column),
        params=float(params),
        tokens=float(first.tokens),
        flops=None if flops is None else float(flops),
        budget=None if first.budget is None else float(first.budget),
        rows=tuple(row for _, row in best),
        names=tuple(name for name, _ in best),
        settings=choice.settings,
        trials=rows,
        shift=choice.shift,
    )
    reason = "another setting of this cell reached a lower loss"
    return cell, [DroppedRun(name, cell.line, reason) for (name, _), kept in zip(members, won, strict=True) if not kept]
