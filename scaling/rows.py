"""Rows: what is known of one run before it is trained, and after.

    CellKey   which cell of the grid a run belongs to
    PlanRow   one planned run: `scaling plan --json` lists it, a launch freezes it, status and progress read it
    RunRow    one run with its result: its fields are the columns of `results/<sweep>/runs.csv`

A row is typed while it is in memory; JSON and CSV are made and read here. Losses are nats per token. A file of an
earlier version lacks some fields: they are None.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from scaling.errors import DataError, StoreError
from scaling.files import JsonObject, refuse_pipe, write_atomic
from scaling.run import Run, Shape


@dataclass(frozen=True, slots=True)
class CellKey:
    """One cell of a grid: the line, the budget or token multiple as the grid writes it, and the name of the shape."""

    line: str
    group: str
    shape: str

    def __str__(self) -> str:
        """The label: ``low_rank@0.25/2e+10/d32L2``. It is only ever made, never taken apart."""
        return f"{self.line}/{self.group}/{self.shape}"

    def to_json(self) -> dict[str, str]:
        """The label and its three parts."""
        return {"cell": str(self), "line": self.line, "group": self.group, "shape_name": self.shape}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CellKey:
        """The key that `to_json` wrote. Files of 0.1 have the label alone, and no name in it had a slash."""
        if "group" not in values:
            return cls(*values["cell"].split("/"))
        return cls(values["line"], values["group"], values["shape_name"])


@dataclass(frozen=True, slots=True)
class DroppedCell:
    """A cell that is not run, and why."""

    cell: CellKey
    reason: str

    def to_json(self) -> dict[str, str]:
        """The cell and the reason, as plans and launches list them."""
        return self.cell.to_json() | {"reason": self.reason}

    @classmethod
    def from_json(cls, values: Mapping[str, str]) -> DroppedCell:
        """The dropped cell that `to_json` wrote."""
        return cls(CellKey.from_json(values), values["reason"])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One planned run. FLOPs are of the whole training, forward and backward; `optimizer_flops` are apart from them.

    Args:
        family: as the sweep calls it; the line is that of the cell.
        rank_of: what the rank ratio multiplies; None in a dense line, and in a launch of 0.1.
        memory_bytes: training with one sequence at a time on one device.
        micro_batch: sequences at once on each device; None where it is not priced or cannot be cut, and in 0.1.
        runs_per_gpu: runs that share its GPU, itself included.
        memory_bytes_per_device: the most that a device needs with them, by `memory_parts` (`sweeps.memory`).
        device_hours: predicted, of all devices; `money` is their price, None where none is stated.
        trunk: the stable phase that other runs share, of which this one takes over `inherited_steps`.
        hours: predicted wall time on the run's own devices; None where it is not priced.
        settings: `Run.settings()`; None where nothing is launched.
    """

    id: str
    family: str
    cell: CellKey
    parameterization: str
    optimizer: str
    rank_ratio: float | None
    rank_of: str | None = None
    shape: Shape
    params_total: int
    params_non_embedding: int
    params_matmul: int
    tokens: int
    steps: int
    batch_tokens: int
    sequence_length: int
    budget: float | None
    flops: float
    flops_6nd: float
    optimizer_flops: float
    memory_bytes: float
    lr: float
    other_lr: float
    seed: int
    stage: str = "grid"
    trunk: str | None = None
    inherited_steps: int = 0
    hours: float | None = None
    device_hours: float | None = None
    money: float | None = None
    micro_batch: int | None = None
    runs_per_gpu: int = 1
    memory_bytes_per_device: float | None = None
    memory_parts: Mapping[str, float] | None = None
    settings: Mapping[str, Any] | None = None

    @property
    def line(self) -> str:
        """The line of its cell."""
        return self.cell.line

    @property
    def run(self) -> Run:
        """The run with every setting resolved. Raises StoreError where the launch file holds no settings of a run."""
        assert self.settings is not None, "a launch has settings"
        try:
            return Run.from_settings(self.settings)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            hint = "scaling launch SWEEP --replan   freezes the plan again"
            raise StoreError(
                "the launch's settings of a run cannot be read", where=self.id, got=str(error), hint=hint
            ) from None

    def to_json(self) -> JsonObject:
        """One flat object; `shape` is nested, and so are the settings of a launched run."""
        values = {name: getattr(self, name) for name in _PLAN_FIELDS}
        if self.settings is None:
            del values["settings"]
        return values | self.cell.to_json() | {"shape": {name: getattr(self.shape, name) for name in _SHAPE_FIELDS}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PlanRow:
        """The row that `to_json` wrote; keys this version does not know are ignored."""
        known = {name: values[name] for name in _PLAN_FIELDS if name in values}
        known["cell"], known["shape"] = CellKey.from_json(values), _shape(**values["shape"])
        return cls(**known)


_PLAN_FIELDS = tuple(field.name for field in fields(PlanRow))
_shape = lru_cache(maxsize=4096)(Shape)  # the runs of a plan share a few
_SHAPE_FIELDS = tuple(field.name for field in fields(Shape))


@dataclass(frozen=True, slots=True)
class SetLoss:
    """The loss of one run on one more validation set, nats per token and per byte."""

    name: str
    loss: float | None
    loss_se: float | None = None
    loss_per_byte: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run and what came of it.

    The fields are the columns of runs.csv; only `sets`, the losses on further validation sets, are three columns for
    each set: `loss:NAME`, `loss_se:NAME` and `loss_per_byte:NAME`. Norms are those of `training.stability`.
    """

    id: str | None = None
    """Id of the run: the first 16 hex digits of the hash of its settings."""
    family: str | None = None
    """Family, as the sweep names it."""
    line: str | None = None
    """Family and rank ratio, such as `low_rank@0.25`."""
    parameterization: str | None = None
    """`dense` or `low_rank`."""
    optimizer: str | None = None
    """Update rule of hidden matrices."""
    rank_ratio: float | None = None
    """Rank as a share of `rank_of`; empty for dense."""
    rank_of: str | None = None
    """What the ratio multiplies: `in_features` or `min`; empty for dense."""
    self_guided: float | None = None
    """Share of the steps over which a dense helper fades; empty without one."""
    layers: int | None = None
    """Transformer blocks."""
    width: int | None = None
    """Width of the residual stream."""
    heads: int | None = None
    """Attention heads of one layer."""
    kv_heads: int | None = None
    """Key-value heads of one layer; as many as `heads` unless shared."""
    tied: bool | None = None
    """Whether embedding and output head share one matrix."""
    ff_width: int | None = None
    """Width of the feed-forward."""
    vocab_size: int | None = None
    """Entries of the vocabulary."""
    rank_q: int | None = None
    """Rank of the query matrix; empty for dense."""
    rank_k: int | None = None
    """Rank of the key matrix; empty for dense."""
    rank_v: int | None = None
    """Rank of the value matrix; empty for dense."""
    rank_o: int | None = None
    """Rank of the output matrix of attention; empty for dense."""
    rank_gate: int | None = None
    """Rank of the gate matrix of the feed-forward; empty for dense."""
    rank_up: int | None = None
    """Rank of the up matrix of the feed-forward; empty for dense."""
    rank_down: int | None = None
    """Rank of the down matrix of the feed-forward; empty for dense."""
    params_total: int | None = None
    """All parameters of the model, factors where factorized."""
    params_non_embedding: int | None = None
    """Parameters without embedding table and output head."""
    params_matmul: int | None = None
    """Parameters of the matrices that a token is multiplied by, the output head included."""
    tokens: float
    """Planned training tokens D, a whole number of batches."""
    steps: int | None = None
    """Planned optimizer steps."""
    batch_tokens: int | None = None
    """Tokens of one step."""
    sequence_length: int | None = None
    """Tokens of one sequence."""
    budget: float | None = None
    """Nominal training FLOPs of the cell, in the convention of the sweep; empty without one."""
    flops: float | None = None
    """FLOPs of the planned training: matrices and causal attention, forward and backward."""
    flops_6nd: float | None = None
    """FLOPs of the planned training by the rule 6 · `params_total` · `tokens`."""
    optimizer_flops: float | None = None
    """FLOPs of the update rule over the planned steps; neither `flops` nor `flops_6nd` has them."""
    lr: float | None = None
    """Peak learning rate of hidden matrices."""
    seed: int | None = None
    """Seed of initial weights and data order."""
    cell: str | None = None
    """Line, budget or token multiple, and shape: the data point to which the run belongs."""
    trunk: str | None = None
    """Id of the stable phase that the run shares with others of its plan; empty where it shares none."""
    other_lr: float | None = None
    """Peak learning rate of embedding, output head and norms."""
    weight_decay: float | None = None
    """Decoupled weight decay of hidden matrices; empty where off."""
    momentum: float | None = None
    """Decay of the average gradient of Muon and Spectron; empty for AdamW."""
    spectral_weight_decay: float | None = None
    """Decay of the leading singular direction; empty where off."""
    status: str | None = None
    """`completed`, `diverged`, `failed`, `running`, `queued`, `planned` or `stale`."""
    loss: float | None = None
    """Validation loss after the last step, nats per token; empty unless `completed`."""
    loss_se: float | None = None
    """Standard error of `loss` over the validation documents, nats per token; empty with fewer than two."""
    loss_per_byte: float | None = None
    """The same validation loss, nats per byte of text."""
    last_finite_loss: float | None = None
    """Training loss of the last step that had a finite one, nats per token."""
    device_seconds: float | None = None
    """Seconds of training steps, summed over devices and attempts, as if the run had been trained alone."""
    inherited_seconds: float | None = None
    """Of `device_seconds`, those that other runs of its `trunk` spent."""
    warmup_seconds: float | None = None
    """Device seconds of compiling and first steps of this run's own attempts, not part of `device_seconds`."""
    compiled: bool | None = None
    """Whether the model was compiled."""
    micro_batch: int | None = None
    """Sequences at once on each device."""
    runs_per_gpu: int | None = None
    """Runs that shared the GPU, itself included: `device_seconds` are the run's part of the GPU's time."""
    epochs: float | None = None
    """Passes over the training tokens of the corpus."""
    device: str | None = None
    """Device that trained the run, `cpu` or `cuda:` and its name."""
    torch_version: str | None = None
    """Version of torch that trained the run."""
    corpus_hash: str | None = None
    """Hash of the prepared tokens that the run was trained on."""
    loss_spikes: int | None = None
    """Times that the training loss rose more than 6 robust deviations above the median of the 50 steps before."""
    matrix_norm: float | None = None
    """Largest spectral norm of a hidden matrix, a product A·B where factorized, at the end."""
    largest_matrix_norm: float | None = None
    """Largest `matrix_norm` of the measured steps and the end."""
    factor_norm: float | None = None
    """Largest spectral norm of a factor at the end; empty for dense."""
    update_norm_over_lr: float | None = None
    """Largest spectral norm of a step's change of a hidden matrix, over that step's rate, of the measured steps."""
    largest_grad_norm: float | None = None
    """Largest Euclidean norm of the gradient of all parameters, of the measured steps, before clipping."""
    imported: str | None = None
    """Table that the run was imported from, which was trained elsewhere; empty for a run of the store."""
    sets: tuple[SetLoss, ...] = ()
    """Losses on further validation sets, three columns for each: `loss:NAME`, `loss_se:NAME`, `loss_per_byte:NAME`."""

    @property
    def completed(self) -> bool:
        """Whether it is a data point; a foreign row, which has no status, always is."""
        return self.status in (None, "completed")

    @property
    def final_loss(self) -> float:
        """The loss of a completed run."""
        assert self.loss is not None, "a completed run has a loss"
        return self.loss

    @property
    def model(self) -> tuple[Shape, Mapping[str, int] | None] | None:
        """Shape and ranks (None: dense); None where the row lacks a part of them, as rows of 0.1 do."""
        layers, width, heads, ff_width, vocab = self.layers, self.width, self.heads, self.ff_width, self.vocab_size
        if layers is None or width is None or heads is None or ff_width is None or vocab is None:
            return None
        if self.kv_heads is None or self.tied is None:
            return None
        kv_heads = None if self.kv_heads == heads else self.kv_heads
        shape = Shape(layers, width, heads, ff_width, vocab, kv_heads, True if self.tied else None)
        ranks = {name: rank for name in shape.matrices() if (rank := getattr(self, f"rank_{name}")) is not None}
        if ranks and len(ranks) < len(shape.matrices()):
            return None
        return shape, ranks or None

    def number(self, column: str) -> float | None:
        """The number in a column that a user named."""
        value = getattr(self, column)
        assert value is None or isinstance(value, (int, float)), column
        return value


Row = TypeVar("Row", bound=RunRow)
COLUMNS = tuple(field.name for field in fields(RunRow) if field.name != "sets")
_cells = attrgetter(*COLUMNS)
_FORMULA = ("=", "+", "-", "@")
_SET_COLUMNS = ("loss", "loss_se", "loss_per_byte")
_NO_LOSS = (None,) * len(_SET_COLUMNS)
TEXT_COLUMNS = {field.name for field in fields(RunRow) if "str" in str(field.type)}
_POSITIVE = {"params", "tokens", "loss", "flops", "budget", "params_total", "params_non_embedding", "params_matmul"}


def columns_of(kind: type[RunRow]) -> tuple[str, ...]:
    """The columns that a kind of row has whatever its validation sets."""
    return tuple(field.name for field in fields(kind) if field.name != "sets")


def is_runs_table(header: Iterable[str]) -> bool:
    """Whether these are the columns of our own `runs.csv`."""
    return {"id", "line", "status", "params_matmul"} <= set(header)


def write_runs(path: Path, rows: Sequence[RunRow]) -> None:
    """Write the rows as CSV; None is an empty cell, floats keep every digit."""
    names = list(dict.fromkeys(one.name for row in rows for one in row.sets))
    header = [*COLUMNS, *(f"{column}:{name}" for name in names for column in _SET_COLUMNS)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        sets = {one.name: [getattr(one, column) for column in _SET_COLUMNS] for one in row.sets}
        losses = [loss for name in names for loss in sets.get(name, _NO_LOSS)]
        writer.writerow([*map(csv_cell, _cells(row)), *losses])
    write_atomic(path, text.getvalue())


def csv_cell(value: object) -> object:
    """A value as a CSV cell: a text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) and _number(value) is None else value


def read_runs(path: Path) -> list[RunRow]:
    """The rows of a runs.csv, of this version or an earlier one. Raises DataError with file, line and column."""
    rows = [run_row(f"{path}:{number}", values) for number, values in read_csv(path)]
    if not rows:
        raise DataError("the table has no rows", where=str(path))
    return rows


def run_row(where: str, values: Mapping[str, object]) -> RunRow:
    """One checked row of ours; only a completed run must have a loss, only one of the store all counts."""
    completed = str(values.get("status")).strip() == "completed"
    counted = () if values.get("imported") else ("params_total",)
    needed = ("tokens", *counted, *(("loss",) if completed else ()))
    return checked_row(RunRow, where, values, needed=needed)


def checked_row(kind: type[Row], where: str, values: Mapping[str, object], *, needed: Iterable[str]) -> Row:
    """A row of texts and numbers as a file has them: whole numbers as ints, None where a cell is empty.

    Raises:
        DataError: a value that no law could use, with the row and the column.
    """
    cells = {name: _value(f"{where}: {name}", name, values.get(name)) for name in columns_of(kind)}
    for name in needed:
        if cells[name] is None:
            raise DataError("a value is missing", where=f"{where}: {name}", allowed="a positive number")
    for name in _POSITIVE & cells.keys():
        if cells[name] is not None and not cells[name] > 0:
            got = cells[name]
            raise DataError("a value is not positive", where=f"{where}: {name}", got=got, allowed="a number above 0")
    return kind(**cells, sets=tuple(_sets(where, values)))


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """(line number for people, column -> text) of a CSV file. Raises DataError."""
    try:
        refuse_pipe(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [str(name).strip() for name in reader.fieldnames or ()]
            if len(set(header)) < len(header):
                twice = ", ".join(sorted({name for name in header if header.count(name) > 1}))
                allowed = "every column once"
                raise DataError("a column appears twice", where=f"{path}:1", got=twice, allowed=allowed)
            for row in reader:
                if None in row or None in row.values():
                    what, allowed = "a row has another number of cells than the header", f"{len(header)} cells"
                    raise DataError(what, where=f"{path}:{reader.line_num}", allowed=allowed)
                yield reader.line_num, dict(zip(header, row.values(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the table cannot be read: {error}", where=str(path)) from error


def _sets(where: str, values: Mapping[str, object]) -> Iterator[SetLoss]:
    for column in values:
        if column.startswith("loss:"):
            name = column.removeprefix("loss:")
            losses = {key: _value(f"{where}: {column}", key, values.get(f"{key}:{name}")) for key in _SET_COLUMNS}
            if any(loss is not None for loss in losses.values()):
                yield SetLoss(name, **losses)


def _value(where: str, name: str, value: object) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if name in TEXT_COLUMNS:
        text = str(value).strip()
        return text[1:] if text.startswith(tuple(f"'{sign}" for sign in _FORMULA)) else text
    if name in ("tied", "compiled") and str(value) in ("True", "False"):
        return str(value) == "True"
    number = _number(value)
    if number is None:
        raise DataError("a value is not a number", where=where, got=str(value), allowed="a finite number")
    if name == "rank_ratio" and math.isnan(number):  # how data frames write "dense"
        return None
    if not math.isfinite(number):
        raise DataError("a value is not finite", where=where, got=str(value), allowed="a finite number")
    return int(number) if number == int(number) and abs(number) < 2**53 else number


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
