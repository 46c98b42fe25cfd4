"""Which column is which: names that the field uses, `--columns` before them, and a question where two could be meant.

Nothing is guessed: of several columns for one quantity, the one with exactly our name stands (of losses none does);
columns that hold the same numbers are one; otherwise the error lists them with the option that chooses.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import get_args

import numpy as np

from scaling.analysis.foreign_row import POINT_COLUMNS
from scaling.analysis.table.cells import is_missing
from scaling.analysis.table.names import COUNTS, Role, is_training_loss, loss_unit, role_of, taken_apart
from scaling.analysis.table.raw import RawTable
from scaling.errors import DataError
from scaling.laws.points import Array
from scaling.rows import COLUMNS

REQUIRED = ("params", "tokens", "loss")
OPTIONAL = ("family", "rank_ratio", "flops", "budget", "seed", *POINT_COLUMNS)
_SINGLE: tuple[Role, ...] = ("tokens", "flops", "budget", "batch_tokens", "tokens_per_param", "chinchilla_multiple")
_FIRST: tuple[Role, ...] = ("seed", "run", "state", "step", "sequence_length", "unique_tokens")
_RUN_NAMES = ("run", "run_id", "run_name", "runid", "runname", "name", "id")  # the best first
_SAME = 0.01  # losses closer than this (relative) are one metric

NumbersOf = Callable[[str], Array]


def find_columns(
    raw: RawTable, *, chosen: Mapping[str, str], loss: str | None, numbers_of: NumbersOf, notes: list[str]
) -> dict[str, str]:
    """Our name -> the table's, of every column that is recognised or chosen; what a person should know goes to `notes`.

    Args:
        chosen: of `--columns`.
        loss: of `--loss`.
        numbers_of: a column as numbers.

    Raises:
        DataError: a chosen column is not there, several could be meant, or the losses are missing.
    """
    check_chosen(raw, chosen)
    mapping = dict(chosen)
    if loss is not None:
        mapping["loss"] = _named(raw, loss)
    free = [name for name in raw.columns if name not in mapping.values()]
    roles = {name: role_of(name) for name in free}

    def candidates(role: Role) -> list[str]:
        return [name for name in free if roles[name] == role]

    if "params" not in mapping and (column := _params(raw, candidates, numbers_of, notes)):
        mapping["params"] = column
    for role in _SINGLE:
        if role not in mapping and (column := _one(raw, role, candidates(role), numbers_of)):
            mapping[role] = column
    if "tokens" not in mapping and (column := _data(free, numbers_of)):
        mapping["tokens"] = column
    for role in _FIRST:
        if role not in mapping and (names := candidates(role)):
            mapping[role] = _preferred(role, names)
    if "loss" not in mapping:
        mapping["loss"] = _loss(raw, candidates("loss"), numbers_of, notes)
    others = [name for name in raw.columns if name not in mapping.values()]
    for name in others:  # any column under exactly our name
        key = name.strip().lower()
        if key in (*COLUMNS, *OPTIONAL) and key not in mapping and key not in get_args(Role):
            mapping[key] = name
    for role in COUNTS[:3]:  # beside N, for a law in every convention
        if role not in mapping and len(names := candidates(role)) == 1:
            mapping[role] = names[0]
    return mapping


def check_chosen(raw: RawTable, chosen: Mapping[str, str]) -> None:
    """Refuses names of `--columns` that are not ours, and names that are not the table's."""
    names = dict.fromkeys((*REQUIRED, *OPTIONAL, *COLUMNS, "run", "step", "tokens_per_param"))
    if unknown := [name for name in chosen if name not in names]:
        raise DataError(
            f"--columns gives a name to {', '.join(unknown)}, which no table has",
            where=raw.where,
            got=", ".join(f"{ours}={theirs}" for ours, theirs in chosen.items()),
            allowed=f"{', '.join((*REQUIRED, *OPTIONAL))}, run, step on the left of each =",
        )
    if absent := [theirs for theirs in chosen.values() if theirs not in raw.columns]:
        raise DataError(
            f"--columns names {', '.join(absent)}, which the table does not have",
            where=raw.where,
            allowed=f"one of {', '.join(raw.columns)} on the right of each =",
        )


def no_column(raw: RawTable, role: str, more: str = "") -> DataError:
    """The error where a column that a law needs is neither there nor can be computed."""
    return DataError(
        f"the table has no column {role}{more}",
        where=raw.where,
        got=", ".join(raw.columns),
        allowed=f"{', '.join(REQUIRED)}, and optionally {', '.join(OPTIONAL)}",
        hint="rename the columns in the file, or pass --columns params=NAME,tokens=NAME,loss=NAME",
    )


def _data(names: Sequence[str], numbers_of: NumbersOf) -> str | None:
    """A column called data, which holds numbers: as many tokens."""
    called = [name for name in names if taken_apart(name).key in ("data", "dataset", "training_data", "train_data")]
    return called[0] if len(called) == 1 and np.isfinite(numbers_of(called[0])).all() else None


def _named(raw: RawTable, loss: str) -> str:
    if loss in raw.columns:
        return loss
    alike = [name for name in raw.columns if name.strip().lower() == loss.strip().lower()]
    if len(alike) == 1:
        return alike[0]
    raise DataError(
        f"--loss names {loss}, which the table does not have", where=raw.where, allowed=", ".join(raw.columns)
    )


def _params(
    raw: RawTable, candidates: Callable[[Role], list[str]], numbers_of: NumbersOf, notes: list[str]
) -> str | None:
    if names := candidates("params"):
        return _one(raw, "params", names, numbers_of)
    counts = [name for role in COUNTS for name in candidates(role)]
    column = _one(raw, "params", counts, numbers_of)
    if column is not None and len(counts) == 1:
        notes.append(f"N counts {column}: exponents depend on which parameters are counted")
    return column


def _one(raw: RawTable, role: str, names: Sequence[str], numbers_of: NumbersOf) -> str | None:
    """The column of `role` among `names`, which are all called so."""
    names = [name for name in names if not all(map(is_missing, raw.columns[name]))]
    exact = [name for name in names if name.strip().lower() == role]
    names = exact if len(exact) == 1 else [name for name in names if np.isfinite(numbers_of(name)).any()] or names[:1]
    if len(names) < 2:
        return names[0] if names else None
    first = numbers_of(names[0])
    if all(_close(first, numbers_of(name), 1e-9) for name in names[1:]):
        return names[0]
    raise _several(raw, role, names, " or ".join(f"--columns {shlex.quote(f'{role}={name}')}" for name in names))


def _loss(raw: RawTable, names: Sequence[str], numbers_of: NumbersOf, notes: list[str]) -> str:
    filled = [name for name in names if np.isfinite(numbers_of(name)).any()] or list(names)
    filled = [name for name in filled if name.strip() not in ("L", "l")] or filled  # L may be the layers
    measured = [name for name in filled if not is_training_loss(name)]
    if not filled:
        raise no_column(raw, "loss")
    if not measured:
        measured = filled
        notes.append(f"{filled[0]} is a training loss: it is lower than the loss on other data where data repeat")
    first, *others = sorted(measured, key=lambda name: loss_unit(name) != "nats")
    if others and not all(_one_metric(numbers_of(first), numbers_of(name), name) for name in others):
        raise _several(raw, "loss", measured, f"--loss {shlex.quote(first)} (may be repeated: one law for each)")
    if unused := [name for name in filled if name != first]:
        notes.append(f"the law is of {first}; {', '.join(unused)} not used (--loss NAME)")
    return first


def _one_metric(first: Array, other: Array, name: str) -> bool:
    """Whether another column is the same loss in another unit."""
    if loss_unit(name) == "ppl":
        with np.errstate(all="ignore"):
            return _close(first, np.log(np.where(other > 0, other, math.nan)), _SAME)
    both = np.isfinite(first) & np.isfinite(other) & (first > 0) & (other > 0)
    if both.sum() < 2:
        return False
    with np.errstate(all="ignore"):
        ratio = other[both] / first[both]
        middle = float(np.median(ratio))
        apart = np.abs(ratio / middle - 1).max()
    same = middle == 1.0 if loss_unit(name) == "nats" else True
    return same and bool(apart < _SAME)


def _close(a: Array, b: Array, tolerance: float) -> bool:
    return bool(np.allclose(a, b, rtol=tolerance, atol=0.0, equal_nan=True))


def _several(raw: RawTable, role: str, names: Iterable[str], hint: str) -> DataError:
    what = {"params": "N", "tokens": "D", "loss": "the loss", "flops": "the training FLOPs"}.get(role, role)
    return DataError(f"several columns could be {what}", where=raw.where, got=", ".join(names), hint=hint)


def _preferred(role: Role, names: Sequence[str]) -> str:
    order: dict[str, int] = {name: n for n, name in enumerate(_RUN_NAMES if role == "run" else (role,))}
    return min(names, key=lambda name: order.get(name.strip().lower(), len(order)))
