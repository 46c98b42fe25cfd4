"""`scaling import TABLE --sweep SWEEP`: final losses of runs that were trained elsewhere, brought into a sweep's study.

The rows lie in `results/<sweep>/imported.csv`, in the columns of runs.csv, with the name of their table in `imported`.
`collect` adds them to runs.csv, so that every study of the sweep has them. Where a table describes the shape of its
models, parameters and FLOPs are counted by structure as for our own runs; its own counts are held against them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import DataError
from scaling.project.opened import OpenSweep
from scaling.rows import COLUMNS, RunRow, read_runs, write_runs
from scaling.run import Shape
from scaling.sweeps.counting import Counts, count, training_flops

if TYPE_CHECKING:
    from scaling.analysis.foreign_row import ForeignRow
    from scaling.analysis.table.decisions import TableReport
    from scaling.analysis.table.reading import TableOptions

NAME = "imported.csv"
_COUNTS = ("params_total", "params_non_embedding", "params_matmul")
_SAME_COUNT = 0.005  # a count of the table this close (relative) is that of the shape: norms and biases (assumption)


@dataclass(frozen=True)
class Imported:
    """What an import did: all rows of `path`, how many of them are new, and how many went for them."""

    path: Path
    rows: tuple[RunRow, ...]
    new: int
    replaced: int
    report: TableReport
    notes: tuple[str, ...]


def imported_rows(results: Path) -> list[RunRow]:
    """The rows that were imported into a sweep's study. Raises DataError where their file cannot be read."""
    path = results / NAME
    return read_runs(path) if path.exists() else []


def import_table(opened: OpenSweep, table: Path, options: TableOptions, *, line: str | None) -> Imported:
    """Take the runs of a table into the study of a sweep; those of an earlier import of a file of this name go.

    Args:
        table: what `load_table` reads.
        options: how it is read.
        line: the line that all runs join; that of the column `family`, else the table's name, where left out.

    Raises:
        DataError: the table cannot be read, is no table of final losses per token, or lacks what the study needs.
    """
    from scaling.analysis.foreign_row import ForeignRow
    from scaling.analysis.table.shapes import add_counts, shape_columns
    from scaling.analysis.table_reader import raw_table, rows_of_raw

    raw = raw_table(table, options)
    shapes = shape_columns([name for name in raw.columns if name not in options.columns.values()], raw.where)
    columns = shapes | dict(options.columns)
    add_counts(raw, columns)
    loaded = rows_of_raw(raw, replace(options, columns=columns))
    rows = [row for row in loaded.rows if isinstance(row, ForeignRow)]
    if len(rows) < len(loaded.rows):
        hint = "name its folder, which has records.jsonl (`scaling collect --records`), without --sweep"
        raise DataError("a table of ours is imported by its records", where=str(table), hint=hint)
    _refuse(rows, loaded.report)
    made = _Importer(opened, table, loaded.report, line)
    new = [made.row(n, row) for n, row in enumerate(rows, 1)]
    _refuse_ids(new, str(table))
    before = imported_rows(opened.results)
    kept = [row for row in before if row.imported != table.name]
    path = opened.results / NAME
    write_runs(path, [*kept, *new])
    notes = tuple(dict.fromkeys(made.notes))
    ours = tuple(note for note in loaded.report.notes if not note.startswith("N counts "))  # N is the sweep's
    report = replace(loaded.report, notes=ours)
    return Imported(path, (*kept, *new), len(new), len(before) - len(kept), report, notes)


class _Importer:
    """Rows of one table to rows of the sweep; `notes` gathers what a person should know."""

    def __init__(self, opened: OpenSweep, table: Path, report: TableReport, line: str | None) -> None:
        self.table, self.report, self.line = table, report, line
        self.notes: list[str] = []
        self._sequence_length = opened.sweep.training.sequence_length
        self._isoflop_lines = opened.sweep.line_names() if opened.sweep.grid.kind == "isoflop" else ()
        self._params_column = opened.sweep.params_column

    def row(self, number: int, row: ForeignRow) -> RunRow:
        """One run; `number` names it where the table does not."""
        values: dict[str, Any] = {name: getattr(row, name) for name in COLUMNS}
        line = self.line or _line(row) or self.table.stem
        values |= {
            "id": f"{self.table.stem}:{row.id or number}",
            "line": line,
            "family": line if self.line or row.family is None else row.family,
            "status": "completed",
            "imported": self.table.name,
        }
        values |= self._counted(row)
        total = values["params_total"]
        values["flops_6nd"] = None if total is None else 6.0 * total * row.tokens
        if values[self._params_column] is None:
            raise self._without_params()
        if line in self._isoflop_lines and row.budget is None:
            self.notes.append(f"{line} has budgets and these runs have none (a column budget): no isoFLOP profiles")
        return RunRow(**values)

    def _without_params(self) -> DataError:
        column = self._params_column
        return DataError(
            f"the sweep's N is {column}, and the table has neither that column nor whole shapes",
            where=str(self.table),
            got=", ".join(f"{ours}={theirs}" for ours, theirs in self.report.mapping.items()),
            allowed=f"a column {column}; or layers, width, heads, ff_width, vocab_size of Llama-style models",
            hint=f"--columns {column}=NAME, or another N in the sweep, such as analysis: {{params: params_total}}",
        )

    def _counted(self, row: ForeignRow) -> dict[str, Any]:
        """Counts and FLOPs of a row: of its shape, where that gives the parameters that the table counted."""
        counts = {name: getattr(row, name) for name in _COUNTS}
        known = [value for value in (*counts.values(), row.params) if value is not None]
        shape = self._shape(row, known)
        if shape is None:
            if not any(counts.values()):
                counts["params_total"] = round(row.params)
                self.notes.append(f"{self.report.mapping['params']} is taken for params_total")
            return counts | dict.fromkeys(("layers", "width", "heads", "kv_heads", "ff_width", "vocab_size", "tied"))
        structure = count(shape)
        length = row.sequence_length or self._sequence_length
        if row.sequence_length is None:
            self.notes.append(f"the sequence length of FLOPs is that of the sweep, {length}")
        return {
            **{name: structure.column(name) for name in _COUNTS},
            "kv_heads": shape.kv_heads or shape.heads,
            "tied": bool(shape.tied),
            "sequence_length": length,
            "flops": training_flops(shape, None, sequence_length=length, tokens=row.tokens),
        }

    def _shape(self, row: ForeignRow, known: Sequence[float]) -> Shape | None:
        """The shape of a row; None where it is not whole or does not give the counts of the table."""
        from scaling.analysis.table.shapes import PARTS, shape_of

        sizes = {name: getattr(row, name) for name in (*PARTS, "kv_heads")}
        ties = (False, True) if row.tied is None else (row.tied,)
        shapes = [shape for tied in ties if (shape := shape_of(sizes, tied=tied)) and row.rank_ratio is None]
        for shape in shapes:
            if all(_counts_as(count(shape), value) for value in known):
                return shape
        if shapes:
            computed = f"{shapes[0].layers} layers and width {shapes[0].width} has {count(shapes[0]).params_total:,}"
            self.notes.append(
                f"shapes are not used: a Llama-style model of {computed} parameters, the table says {known[0]:,.0f}"
            )
        return None


def _counts_as(counts: Counts, value: float) -> bool:
    return any(abs(counts.column(name) / value - 1) <= _SAME_COUNT for name in _COUNTS)


def _line(row: ForeignRow) -> str | None:
    if row.family is None:
        return None
    return row.family if row.rank_ratio is None else f"{row.family}@{row.rank_ratio:g}"


def _refuse(rows: Sequence[ForeignRow], report: TableReport) -> None:
    """Refuse what is no table of final losses per token."""
    loss = report.mapping["loss"]
    if " per " in report.units.get(loss, ""):
        raise DataError(
            "a sweep's losses are nats per token, and those of the table are per byte or character",
            where=report.where,
            got=f"{loss}: {report.units[loss]}",
            hint="--loss NAME of a column in nats per token, or --unit " + f"{loss}=nats",
        )
    if any(row.trunk for row in rows):
        raise DataError(
            "the table has checkpoints, whose losses are no final losses",
            where=report.where,
            got=f"{len(rows)} rows of {len({row.trunk for row in rows})} runs",
            hint=f"--last-per {report.mapping.get('run', 'run')} keeps the last of each run",
        )
    tuned = sorted({name for row in rows for name, _ in row.settings})
    if tuned:
        raise DataError(
            f"the table was tuned over {', '.join(tuned)}, for which runs.csv has no column",
            where=report.where,
            hint='keep one setting: --where "NAME == VALUE"; or name a column of ours: --columns batch_tokens=NAME',
        )


def _refuse_ids(rows: Sequence[RunRow], where: str) -> None:
    twice = [name for name, times in Counter(row.id for row in rows).items() if times > 1]
    if twice:
        raise DataError("two rows have one name", where=where, got=", ".join(map(str, twice[:3])))
