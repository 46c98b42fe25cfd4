"""What a row is: a finished run, a checkpoint of one, one of several settings that were tried, a line among others."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from scaling.analysis.table.cells import is_missing, text_of
from scaling.analysis.table.names import role_of, taken_apart
from scaling.analysis.table.raw import Cell, RawTable
from scaling.errors import DataError
from scaling.laws.points import Array

Labels = npt.NDArray[np.str_]
MOST_CHECKPOINTS = 20_000  # rows of runs that a law is fitted to; more say nothing new and take minutes
_LEAST_CHECKPOINTS = 3  # rows that make a run's tokens a series
_MOST_LEVELS = 12  # of a column that could separate repeated rows
_MOST_LINES = 50


def line_labels(raw: RawTable, columns: Sequence[str], asked: str | None, notes: list[str]) -> tuple[Labels, list[str]]:
    """The line of every row ("" where there is one) and the columns that tell lines apart: corpus, optimizer, method.

    Args:
        columns: those that could; `asked` is the one that `--columns family=` names.
    """
    varying = []
    for name in columns:
        levels = {text_of(cell) for cell in raw.columns[name] if not is_missing(cell)}
        texts = any(isinstance(cell, str) and not _numeric(cell) for cell in raw.columns[name])
        if name != asked and (not texts or len(levels) < 2):
            continue
        if name != asked and (len(levels) > _MOST_LINES or len(levels) > len(raw) / 2):
            notes.append(f"{name} has {len(levels)} values in {len(raw)} rows and is not taken as lines")
            continue
        varying.append(name)
    varying = _independent(raw, varying)
    labels = [" ".join(text for name in varying if (text := text_of(raw.columns[name][n]))) for n in range(len(raw))]
    if len(set(labels)) > 1:
        names = ", ".join(dict.fromkeys(labels))
        notes.append(
            f"{len(set(labels))} lines by {', '.join(varying)}: {names if len(names) < 200 else names[:197] + '...'}"
        )
    return np.array(labels, dtype=np.str_), varying


def _independent(raw: RawTable, names: Sequence[str]) -> list[str]:
    """Without the columns that follow from those before them."""
    kept: list[str] = []
    before = 1
    for name in names:
        groups = len({tuple(text_of(raw.columns[one][n]) for one in (*kept, name)) for n in range(len(raw))})
        if groups > before:
            kept.append(name)
            before = groups
    return kept


def _numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def trunks(runs: Sequence[Cell], params: Array, tokens: Array) -> Labels | None:
    """The run of every row, where the runs are series of growing tokens at one N; None where rows are whole runs."""
    names = np.array([text_of(cell) for cell in runs], dtype=np.str_)
    _, index, counts = np.unique(names, return_inverse=True, return_counts=True)
    if counts.max() < _LEAST_CHECKPOINTS:
        return None
    pairs = np.unique(np.stack([index.astype(float), tokens]), axis=1).shape[1]
    low, high = np.full(len(counts), np.inf), np.zeros(len(counts))
    np.minimum.at(low, index, params)
    np.maximum.at(high, index, params)
    series = (counts >= _LEAST_CHECKPOINTS) & (low == high)
    of_series = int(counts[series].sum())
    return names if of_series > len(names) / 2 and pairs > len(names) / 2 else None


def spread(runs: Labels, tokens: Array, most: int = MOST_CHECKPOINTS) -> npt.NDArray[np.intp]:
    """The rows to keep so that about `most` are left: of each run evenly in log tokens, the last one always."""
    order = np.lexsort((tokens, runs))
    starts = np.flatnonzero(np.concatenate([[True], runs[order][1:] != runs[order][:-1]]))
    ends = np.append(starts[1:], len(order))
    each = max(_LEAST_CHECKPOINTS, most // len(starts))
    kept = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        rows = order[start:end]
        if len(rows) > each:
            grid = np.geomspace(tokens[rows[0]], tokens[rows[-1]], each)
            rows = rows[np.unique(np.clip(np.searchsorted(tokens[rows], grid * (1 - 1e-12)), 0, len(rows) - 1))]
        kept.append(rows)
    return np.sort(np.concatenate(kept))


def last_of(keys: Sequence[Cell], order: Array) -> list[int]:
    """For each key the row with the largest `order` (the last of equal ones), in order of the rows."""
    best: dict[str, int] = {}
    for n, cell in enumerate(keys):
        key = text_of(cell)
        if key not in best or not order[n] < order[best[key]]:
            best[key] = n
    return sorted(best.values())


def tuned(raw: RawTable, groups: Sequence[tuple[object, ...]], columns: Sequence[str]) -> list[str]:
    """Those of the columns of settings whose values differ among rows of one group."""
    return [name for name in columns if _differs(raw.columns[name], groups)]


def ask_what_separates(
    raw: RawTable, groups: Sequence[tuple[object, ...]], unused: Sequence[str], notes: list[str], loss: str
) -> None:
    """Rows that share line, N, D, settings and seed: names the column that tells them apart, or says that none does.

    Raises:
        DataError: a column with few values tells them apart.
    """
    sizes = Counter(groups)
    repeated = [n for n, group in enumerate(groups) if sizes[group] > 1]
    if not repeated:
        return
    count = len({groups[n] for n in repeated})
    separating = [name for name in unused if _separates(raw.columns[name], groups, repeated)]
    if not separating:
        notes.append(f"{count} (N, D) appear in several rows and no column says why: taken as repeated runs")
        return
    name = separating[0]
    quoted = name if name.isidentifier() else f"`{name}`"
    cells = [cell for cell in raw.columns[name] if not is_missing(cell)]
    value = repr(cells[0]) if not (isinstance(cells[0], str) and _numeric(cells[0])) else cells[0]
    levels = ", ".join(dict.fromkeys(text_of(cell) for cell in cells))
    raise DataError(
        f"{count} (N, D) appear in several rows, told apart by {', '.join(separating)}",
        where=raw.where,
        got=f"{name}: {levels}",
        hint=f'keep one: --where "{quoted} == {value}"; or a law for each: --columns {shlex.quote(f"family={name}")}',
    )


def _separates(cells: Sequence[Cell], groups: Sequence[tuple[object, ...]], repeated: Sequence[int]) -> bool:
    """Whether a column has few values, and each value at most once in a group."""
    levels = {text_of(cells[n]) for n in repeated}
    if not 2 <= len(levels) <= _MOST_LEVELS:
        return False
    seen: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for n in repeated:
        seen[groups[n]].append(text_of(cells[n]))
    whole = sum(len(set(values)) == len(values) for values in seen.values())
    several = len(seen) == 1 or len(levels) < len(repeated)
    return several and whole > len(seen) / 2


def _differs(cells: Sequence[Cell], groups: Sequence[tuple[object, ...]]) -> bool:
    first: dict[tuple[object, ...], str] = {}
    return any(
        first.setdefault(group, text_of(cell)) != text_of(cell) for group, cell in zip(groups, cells, strict=True)
    )


def columns_with(raw: RawTable, role: str, used: Mapping[str, str]) -> list[str]:
    """The columns of a role that are not read as something else."""
    return [name for name in raw.columns if role_of(name) == role and name not in used.values()]


def setting_name(column: str) -> str:
    """A setting's name: ours for learning rate, weight decay and tokens of a batch, else as the table has it."""
    key = taken_apart(column).key
    if key in ("learning_rate", "max_lr", "peak_lr", "lr_max", "peak_learning_rate"):
        return "lr"
    return "weight_decay" if key == "wd" else key
