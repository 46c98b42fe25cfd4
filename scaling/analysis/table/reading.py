"""A raw table to rows, step by step: columns, units, rows to keep, what is missing, what a row is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaling.analysis.foreign_row import POINT_COLUMNS, ForeignRow
from scaling.analysis.table import keeping, row_kinds, units
from scaling.analysis.table.cells import Decimal, Numbers, decimal_of, is_missing, numbers, scaled, text_of
from scaling.analysis.table.columns import find_columns, no_column
from scaling.analysis.table.decisions import DroppedRow, TableReport
from scaling.analysis.table.expression import Values
from scaling.analysis.table.names import is_model_name, role_of, taken_apart
from scaling.analysis.table.raw import RawTable
from scaling.errors import DataError
from scaling.laws.points import FLOPS_PER_PARAM_TOKEN, Array
from scaling.optimizers import TUNABLE
from scaling.rows import COLUMNS, TEXT_COLUMNS

CHINCHILLA_TOKENS = 20.0  # per parameter, what "1xC" in the name of a run means (Hoffmann et al. 2022, table 3)
_SIZES = (
    "params",
    "tokens",
    "flops",
    "budget",
    "params_total",
    "params_non_embedding",
    "params_matmul",
    "unique_tokens",
)
_AMOUNTS = (*_SIZES, "batch_tokens", "unique_params")
_POSITIVE = ("params", "tokens", "loss", "flops", "budget", "unique_tokens", "unique_params")
_HELPERS = ("step", "batch_tokens", "sequence_length", "tokens_per_param", "chinchilla_multiple")
_NOT_READ = {"id", "cell", "trunk", "line", "status", "family", "run", "state", "step", "loss"}
_BATCHES = {"batch_size", "global_batch_size", "train_batch_size", "gbs", "gbsz", "bsz", "bs"}
_MOST_SEQUENCES = 1e5  # of one batch; a larger number counts tokens (assumption)
_FLAGS = {"outlier", "exclude", "excluded", "held", "holdout", "flag", "flagged", "bad", "invalid"}
_MANY = 8  # names in a note


@dataclass(frozen=True)
class TableOptions:
    """How a table is read, where it does not say so itself.

    Args:
        columns: our name -> the table's.
        loss: the column of the loss.
        units: column (theirs or ours) -> unit.
        where: expression of the rows to keep.
        exclude: expressions, lines or runs to leave out.
        last_per: column of which each value keeps the row with the most tokens.
        name_pattern: regular expression whose named groups become columns, read from names of runs or files.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    loss: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    exclude: tuple[str, ...] = ()
    last_per: str | None = None
    name_pattern: str | None = None


class Reading:
    """A foreign table while it is read. `amounts` are columns as numbers [rows], sizes in units and losses in nats."""

    def __init__(self, raw: RawTable, options: TableOptions) -> None:
        self.raw, self.options = raw, options
        self.notes: list[str] = list(raw.notes)
        self.dropped: list[DroppedRow] = []
        self.units: dict[str, str] = {}
        self.amounts: dict[str, Array] = {}
        self._numbers: dict[str, Numbers] = {}
        self._decimal = _decimal(raw)
        self._given = len(raw)
        self.mapping = find_columns(
            raw,
            chosen=options.columns,
            loss=options.loss,
            numbers_of=lambda name: self.numbers_of(name).values,
            notes=self.notes,
        )
        self._check_options()

    def numbers_of(self, column: str) -> Numbers:
        """A column as numbers, in the unit of the table."""
        if column not in self._numbers:
            cells = self.raw.columns[column]
            decimal = self._decimal
            if decimal is None and role_of(column) == "loss":  # thousands of nats are no loss
                decimal = ","
            self._numbers[column] = numbers(cells, decimal)
        return self._numbers[column]

    def read(self) -> tuple[list[ForeignRow], TableReport]:
        """The rows, and what was decided."""
        self._convert()
        self._select_wanted()
        self._drop_unusable()
        self._complete()
        self._last_per()
        runs = self._trunks()
        lines, of_lines = self._lines()
        lines, runs = self._drop_impossible(lines, runs)
        self._check_units()
        rows = self._rows(lines, of_lines, runs)
        report = TableReport(
            self.raw.where, self._mapping(), self.units, tuple(self.dropped), tuple(dict.fromkeys(self.notes))
        )
        return rows, report

    def _check_options(self) -> None:
        columns = {*self.raw.columns, *self.mapping}
        for option, names in (("--unit", self.options.units), ("--last-per", [self.options.last_per])):
            for name in names:
                if name is not None and name not in columns:
                    allowed = ", ".join(self.raw.columns)
                    raise DataError(
                        f"{option} names {name}, which the table does not have", where=self.raw.where, allowed=allowed
                    )

    def _unit(self, ours: str) -> str | None:
        return self.options.units.get(self.mapping[ours], self.options.units.get(ours))

    def _convert(self) -> None:
        for ours in (*_AMOUNTS, *_HELPERS):
            if ours not in self.mapping:
                continue
            column = self.mapping[ours]
            column_numbers = self.numbers_of(column)
            if ours in _AMOUNTS and (powers := self._powers(ours, column_numbers.values)) is not None:
                self.amounts[ours] = powers
                continue
            factor, unit = units.amount_unit(column, self._unit(ours)) if ours in _AMOUNTS else (1.0, "")
            if column_numbers.suffixed:
                factor, unit = 1.0, "suffixes"
            if unit:
                self.units[column] = unit
            self.amounts[ours] = column_numbers.values if factor == 1.0 else scaled(column_numbers.values, factor)
        column = self.mapping["loss"]
        self.amounts["loss"], unit, conversion = units.to_nats(
            self.numbers_of(column).values, column, self._unit("loss")
        )
        if unit != "nats":
            self.units[column] = conversion

    def _powers(self, ours: str, values: Array) -> Array | None:
        """The sizes of a column of their logarithms; None where it is none."""
        column = self.mapping[ours]
        powers = units.of_logarithm(values, column, self._unit(ours), self.raw.where)
        if powers is None:
            return None
        self.units[column] = powers[1]
        return powers[0]

    def keep(self, rows: Iterable[int]) -> None:
        """Goes on with some rows."""
        index = np.array(list(rows), dtype=np.intp)
        if len(index) == len(self.raw):
            return
        self.raw = self.raw.select(index.tolist())
        self.amounts = {name: values[index] for name, values in self.amounts.items()}
        self._numbers = {name: Numbers(one.values[index], one.suffixed) for name, one in self._numbers.items()}

    def drop(self, rows: Sequence[tuple[int, DroppedRow]]) -> None:
        """Leaves rows out and lists them."""
        self.dropped += [row for _, row in rows]
        gone = {n for n, _ in rows}
        self.keep(n for n in range(len(self.raw)) if n not in gone)

    def _select_wanted(self) -> None:
        if self.options.where is None and not self.options.exclude:
            return
        columns = {name: self._values(name) for name in self.raw.columns}
        columns |= {self.mapping[ours]: values for ours, values in self.amounts.items() if ours in _SIZES}
        columns |= {ours: values for ours, values in self.amounts.items() if ours not in columns}
        columns |= {ours: columns[theirs] for ours, theirs in self.mapping.items() if ours not in columns}
        kept = keeping.wanted(self.raw, columns, self.options.where, self.options.exclude, self.mapping.get("run"))
        self.notes.append(f"--where and --exclude keep {int(kept.sum())} of {len(kept)} rows")
        self.keep(np.flatnonzero(kept).tolist())

    def _values(self, column: str) -> Values:
        """A column for an expression."""
        return keeping.values_of(self.raw.columns[column], self.numbers_of(column).values)

    def _drop_unusable(self) -> None:
        if "state" in self.mapping:
            unfinished = keeping.unfinished(self.raw, self.mapping["state"])
            if len(unfinished) == len(self.raw):
                raise DataError("no run of the table is finished", where=self.raw.where, got=unfinished[0][1].value)
            self.drop(unfinished)
        needed: list[str] = [name for name in ("loss", "params", "tokens") if name in self.mapping]
        if len(needed) < 3 and (spent := self._spent()):
            needed.append(spent)
        for ours in _POSITIVE:
            if ours in self.amounts and ours not in needed and not np.isfinite(self.amounts[ours]).any():
                self.notes.append(f"column {self.mapping[ours]} is not used: it holds no numbers")
                del self.mapping[ours], self.amounts[ours]
        amounts = {ours: self.amounts[ours] for ours in (*needed, *_POSITIVE) if ours in self.amounts}
        self.drop(keeping.unusable(self.raw, amounts, self.mapping, needed))

    def _spent(self) -> str | None:
        return next((name for name in ("flops", "budget") if name in self.mapping), None)

    def _complete(self) -> None:
        """D or N where the table lacks it."""
        missing = [name for name in ("params", "tokens") if name not in self.mapping]
        if len(missing) == 2:
            raise no_column(self.raw, "params, tokens")
        if not missing:
            return
        given = "tokens" if missing == ["params"] else "params"
        values, formula = self._computed(missing[0], given)
        self.amounts[missing[0]] = values
        self.mapping[missing[0]] = formula
        symbol = "D" if given == "params" else "N"
        self.notes.append(f"the table has no {missing[0]}: {symbol} = {formula}")
        unknown = [n for n, value in enumerate(values.tolist()) if not keeping.is_size(value)]
        if len(unknown) == len(self.raw):
            raise DataError(
                f"{symbol} cannot be computed in any row", where=self.raw.where, got=f"{symbol} = {formula}"
            )
        reason = f"{symbol} cannot be computed"
        self.drop([(n, DroppedRow(self.raw.lines[n], formula, "", reason)) for n in unknown])

    def _computed(self, missing: str, given: str) -> tuple[Array, str]:
        amounts, names = self.amounts, self.mapping
        if spent := self._spent():
            return amounts[spent] / (FLOPS_PER_PARAM_TOKEN * amounts[given]), f"{names[spent]} / (6 · {names[given]})"
        if missing == "tokens":
            if {"step", "batch_tokens"} <= names.keys():
                return amounts["step"] * amounts["batch_tokens"], f"{names['step']} · {names['batch_tokens']}"
            if "step" in names and (batch := self._batch_tokens()) is not None:
                return amounts["step"] * batch[0], f"{names['step']} · {batch[1]}"
            if {"unique_tokens", "epochs"} <= names.keys():
                passes = self.numbers_of(names["epochs"]).values
                return amounts["unique_tokens"] * passes, f"{names['unique_tokens']} · {names['epochs']}"
            if "tokens_per_param" in names:
                return amounts["tokens_per_param"] * amounts[
                    "params"
                ], f"{names['tokens_per_param']} · {names['params']}"
            if "chinchilla_multiple" in names:
                formula = f"{CHINCHILLA_TOKENS:g} · {names['chinchilla_multiple']} · {names['params']}"
                return CHINCHILLA_TOKENS * amounts["chinchilla_multiple"] * amounts["params"], formula
        more = f", and no FLOPs to compute {'D' if missing == 'tokens' else 'N'} from"
        if "step" in names and missing == "tokens":
            more = f"; it has {names['step']}, which take a column batch_tokens (tokens of one step)"
        raise no_column(self.raw, missing, more)

    def _batch_tokens(self) -> tuple[Array, str] | None:
        """Tokens of one step where the table has sequences of a batch and their length; None where it has not."""
        batches = [name for name in self.raw.columns if taken_apart(name).key in _BATCHES]
        if len(batches) != 1 or "sequence_length" not in self.amounts:
            return None
        sequences = self.numbers_of(batches[0]).values
        if not (np.isfinite(sequences).all() and sequences.max() < _MOST_SEQUENCES):
            return None
        return sequences * self.amounts["sequence_length"], f"{batches[0]} · {self.mapping['sequence_length']}"

    def _last_per(self) -> None:
        name = self.options.last_per
        if name is None:
            return
        column = self.mapping.get(name, name) if name not in self.raw.columns else name
        rows = row_kinds.last_of(self.raw.columns[column], self.amounts["tokens"])
        self.notes.append(f"--last-per {name} keeps {len(rows)} of {len(self.raw)} rows")
        self.keep(rows)

    def _trunks(self) -> row_kinds.Labels | None:
        if "run" not in self.mapping or (is_model_name(self.mapping["run"]) and "step" not in self.mapping):
            return None
        runs = row_kinds.trunks(self.raw.columns[self.mapping["run"]], self.amounts["params"], self.amounts["tokens"])
        if runs is None:
            return None
        count, rows = len(np.unique(runs)), len(runs)
        self.notes.append(
            f"{rows} checkpoints of {count} runs: draws are by run. Losses in the middle of one schedule are no final "
            f"losses: --last-per {self.mapping['run']} keeps the last of each run"
        )
        if rows > row_kinds.MOST_CHECKPOINTS:
            kept = row_kinds.spread(runs, self.amounts["tokens"])
            self.notes.append(
                f"{len(kept)} of the {rows} checkpoints are used, evenly in the log of tokens of each run"
            )
            self.keep(kept.tolist())
            runs = runs[kept]
        return runs

    def _lines(self) -> tuple[row_kinds.Labels, list[str]]:
        asked = self.mapping.get("family")
        names = [name for name in self.raw.columns if name == asked or role_of(name) == "line"]
        names.sort(key=lambda name: name != asked)
        taken = {theirs for ours, theirs in self.mapping.items() if ours in (*_SIZES, "loss", "run", "seed")}
        return row_kinds.line_labels(self.raw, [name for name in names if name not in taken], asked, self.notes)

    def _drop_impossible(
        self, lines: row_kinds.Labels, runs: row_kinds.Labels | None
    ) -> tuple[row_kinds.Labels, row_kinds.Labels | None]:
        suspects = keeping.impossible(self.amounts["params"], self.amounts["tokens"], self.amounts["loss"], lines)
        column = self.mapping["loss"]
        cells = self.raw.columns[column]
        rows = [(n, DroppedRow(self.raw.lines[n], column, text_of(cells[n]), reason)) for n, reason in suspects]
        kept = np.setdiff1d(np.arange(len(lines)), [n for n, _ in suspects])
        self.drop(rows)
        return lines[kept], None if runs is None else runs[kept]

    def _check_units(self) -> None:
        where, column = self.raw.where, self.mapping["loss"]
        if column not in self.units and self._unit("loss") is None:
            units.check_loss(self.amounts["loss"], column, where)
        spent = self._spent()
        if spent is not None and {"params", "tokens"} <= {
            ours for ours in self.mapping if self.mapping[ours] in self.raw.columns
        }:
            roles = {"params": "params", "tokens": "tokens", "flops": spent}
            amounts = {role: self.amounts[ours] for role, ours in roles.items()}
            names = {role: self.mapping[ours] for role, ours in roles.items()}
            self.notes += units.check_flops(amounts, names, where)
        self.notes += units.check_sizes(self.amounts["params"], self.amounts["tokens"], self.mapping)

    def _rows(
        self, lines: row_kinds.Labels, of_lines: Sequence[str], runs: row_kinds.Labels | None
    ) -> list[ForeignRow]:
        fields = self._own_columns()
        if len(of_lines):
            fields["family"] = [str(line) or None for line in lines]
        elif "family" in self.mapping:
            fields["family"] = [text_of(cell) or None for cell in self.raw.columns[self.mapping["family"]]]
        if runs is not None:
            fields["trunk"] = [str(run) for run in runs]
        for name in ("params", "tokens", "loss"):
            fields[name] = self.amounts[name].tolist()
        self._repeated_tokens(fields)
        if names_of := self._names():
            fields["id"] = names_of
        self._settings(fields, runs)
        names = list(fields)
        return [ForeignRow(**dict(zip(names, row, strict=True))) for row in zip(*fields.values(), strict=True)]

    def _own_columns(self) -> dict[str, list[Any]]:
        """Columns under our names, as values; those that hold no such values are not used, and that is said."""
        fields: dict[str, list[Any]] = {}
        for ours, theirs in list(self.mapping.items()):
            if ours not in (*COLUMNS, *POINT_COLUMNS) or ours in _NOT_READ or theirs not in self.raw.columns:
                continue
            cells = self.raw.columns[theirs]
            if ours in TEXT_COLUMNS:
                fields[ours] = [None if is_missing(cell) else text_of(cell) for cell in cells]
            elif ours == "tied":
                fields[ours] = [str(cell) == "True" if str(cell) in ("True", "False") else None for cell in cells]
            else:
                values = self.amounts[ours] if ours in self.amounts else self.numbers_of(theirs).values
                bad = [n for n in np.flatnonzero(~np.isfinite(values)).tolist() if not is_missing(cells[n])]
                if bad:
                    reason = f"{text_of(cells[bad[0]])!r} in line {self.raw.lines[bad[0]]} is no number"
                    self.notes.append(f"column {theirs} is not used: {reason}")
                    del self.mapping[ours]
                    continue
                if np.isfinite(values).any():
                    fields[ours] = [_exact(value) if np.isfinite(value) else None for value in values.tolist()]
        return fields

    def _names(self) -> list[str] | None:
        """The name of every row: its run where each has its own, else its line; None where all rows are there."""
        run = self.mapping.get("run")
        names = [] if run is None else [text_of(cell) for cell in self.raw.columns[run]]
        if names and all(names) and len(set(names)) == len(names):
            return names
        if self.raw.files is not None:
            return [self.raw.place(n) for n in range(len(self.raw))]
        return [f"line {line}" for line in self.raw.lines] if len(self.raw) < self._given else None

    def _repeated_tokens(self, fields: dict[str, list[Any]]) -> None:
        unique = fields.get("unique_tokens")
        if unique is None:
            return
        passes = [
            None if one is None else max(1.0, spent / one) for spent, one in zip(fields["tokens"], unique, strict=True)
        ]
        fields.setdefault("epochs", passes)
        most = max((count for count in passes if count is not None), default=1.0)
        if most > 1:
            self.notes.append(
                f"tokens repeat up to {most:,.0f} times ({self.mapping['unique_tokens']}): --law data_constrained "
                "counts what a repeated token is worth, other laws take it for a new one"
            )

    def _settings(self, fields: dict[str, list[Any]], runs: row_kinds.Labels | None) -> None:
        """What was tuned within cells; what else tells rows of one (N, D) apart is asked about."""
        parts = [
            fields[name] for name in ("family", "params", "tokens", "unique_tokens", "rank_ratio") if name in fields
        ]
        groups: list[tuple[object, ...]] = list(zip(*parts, *([] if runs is None else [runs.tolist()]), strict=True))
        columns = row_kinds.columns_with(self.raw, "setting", self.mapping)
        names = row_kinds.tuned(self.raw, groups, columns)
        cells = [self._setting_cells(name) for name in names]
        foreign: list[list[tuple[str, float | str]]] = [[] for _ in groups]
        for name, values in zip(map(row_kinds.setting_name, names), cells, strict=True):
            if name in TUNABLE and name not in fields and all(isinstance(value, float) for value in values):
                fields[name] = values
                continue
            for n, value in enumerate(values):
                if value is not None:
                    foreign[n].append((name, value))
        if any(foreign):
            fields["settings"] = [tuple(one) for one in foreign]
        own = [ours for ours in TUNABLE if ours in fields and ours in self.mapping]
        own = [ours for ours in own if row_kinds.tuned(self.raw, groups, [self.mapping[ours]])]
        if names or own:
            settings = ", ".join(dict.fromkeys([*(self.mapping[ours] for ours in own), *names]))
            self.notes.append(
                f"tuned settings: {settings}; {len(set(groups))} cells, each keeps its best with its selection bias"
            )
        for name in (*own, *(["seed"] if "seed" in fields else [])):
            cells.append(fields[name])
        full = [(*group, *(values[n] for values in cells)) for n, group in enumerate(groups)]
        run = self.mapping.get("run")
        used = {*(theirs for theirs in self.mapping.values() if theirs != run or runs is not None), *names, *columns}
        unused = [
            name for name in self.raw.columns if name not in used and role_of(name) not in ("line", "loss", "seed")
        ]
        row_kinds.ask_what_separates(self.raw, full, unused, self.notes, self.mapping["loss"])
        self._say_unused([name for name in unused if role_of(name) in (None, *_SIZES)])

    def _setting_cells(self, name: str) -> list[float | str | None]:
        values, cells = self.numbers_of(name).values, self.raw.columns[name]
        return [
            value if np.isfinite(value) else None if is_missing(cell) else text_of(cell)
            for value, cell in zip(values.tolist(), cells, strict=True)
        ]

    def _say_unused(self, names: Sequence[str]) -> None:
        for name in names:
            marked = sum(str(cell).strip().lower() in ("true", "1", "1.0") for cell in self.raw.columns[name])
            if {word.rstrip("s") for word in taken_apart(name).words} & _FLAGS and 0 < marked < len(self.raw):
                quoted = name if name.isidentifier() else f"`{name}`"
                self.notes.append(
                    f'{name} marks {marked} of {len(self.raw)} rows, which are used: --where "not {quoted}"'
                )
        if names:
            more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
            self.notes.append(f"columns not used: {', '.join(names[:_MANY])}{more}")

    def _mapping(self) -> dict[str, str]:
        order = ("params", "tokens", "loss", "flops", "budget")
        names = [name for name in order if name in self.mapping]
        return {
            name: self.mapping[name]
            for name in (
                *names,
                *(n for n in self.mapping if n not in names and (n not in _HELPERS or n in self.options.columns)),
            )
        }


def _decimal(raw: RawTable) -> Decimal | None:
    """Which sign marks decimals in this file, as far as its cells or its separator say."""
    signs = {decimal_of(cells) for cells in raw.columns.values()} - {None}
    if signs:
        return "." if "." in signs else ","
    return "," if raw.decimal_comma else None


def _exact(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 2**53 else value
