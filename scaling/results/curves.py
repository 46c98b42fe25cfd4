"""Training curves: the metrics of finished runs as `results/<sweep>/curves.csv`, at most `POINTS` rows a run.

One row for each logged step that has a loss. `loss` is the mean training loss of the steps since the row before in
the log, nats per token; `lr` the learning rate of hidden matrices at that step; `grad_norm`, `matrix_norm` and
`update_norm_over_lr` are the norms of `training.stability`, measured at some steps; `device_seconds` are those of the
training up to the step. The attempts of a run make one curve: a later one goes on from a checkpoint.
"""

from __future__ import annotations

import bisect
import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scaling.errors import DataError
from scaling.files import read_regular, write_atomic
from scaling.results.records_file import FINISHED
from scaling.results.status import RunStatus
from scaling.results.store import Store
from scaling.rows import read_csv

NAME = "curves.csv"
POINTS = 200  # of a run at most
SPIKES = 20  # of these points, at most this many are where the loss rose most (assumption)
SPIKE_RISE_NATS = 0.05  # from one logged loss to the next: less is no spike (assumption; as in `training.history`)
LABELS = ("id", "line", "cell", "seed")
COUNTS = ("step", "tokens")
VALUES = ("loss", "lr", "grad_norm", "matrix_norm", "update_norm_over_lr", "device_seconds")
_IN_LOG = {"loss": "loss_nats"}  # column -> its name in the metrics, where that is another

Point = dict[str, float | int | None]
"""`COUNTS` and `VALUES` of one step; a value that was not measured is None."""


def write_curves(folder: Path, runs: Sequence[RunStatus], store: Store, *, limit: int | None = POINTS) -> int:
    """Write the curves of the finished runs, sorted by id, to `folder`/curves.csv; the number of points.

    Args:
        folder: where the file is written.
        runs: of which the finished ones are taken.
        store: what holds them.
        limit: points of a run; None: all that were logged.
    """
    text, count = io.StringIO(), 0
    writer = csv.DictWriter(text, (*LABELS, *COUNTS, *VALUES), lineterminator="\n")
    writer.writeheader()
    for run in sorted((run for run in runs if run.status in FINISHED), key=lambda run: run.row.id):
        labels = {"id": run.row.id, "line": run.row.line, "cell": str(run.row.cell), "seed": run.row.seed}
        points = curve(store, run.row.id)
        points = points if limit is None else thinned(points, limit=limit)
        writer.writerows(labels | point for point in points)
        count += len(points)
    write_atomic(folder / NAME, text.getvalue())
    return count


def read_curves(path: Path) -> dict[str, list[Point]]:
    """Run id -> its points. Raises DataError with file, line and column."""
    curves: dict[str, list[Point]] = {}
    for number, values in read_csv(path):
        where = f"{path}:{number}"
        try:
            point: Point = {name: int(str(values[name])) for name in COUNTS}
            point |= {name: float(text) if (text := str(values[name])) else None for name in VALUES}
            run_id = str(values["id"])
        except KeyError as error:
            raise DataError("a column is missing", where=where, allowed=str(error)) from None
        except ValueError as error:
            raise DataError("a value is not a number", where=where, got=str(error)) from None
        if not all(value is None or math.isfinite(value) for value in point.values()):
            raise DataError("a value is not finite", where=where)
        curves.setdefault(run_id, []).append(point)
    return curves


def metrics_lines(points: Sequence[Point]) -> list[str]:
    """The points as an attempt logs them, each with the end of its line."""
    named = ({_IN_LOG.get(name, name): value for name, value in point.items()} for point in points)
    return [json.dumps(record, allow_nan=False) + "\n" for record in named]


def curve(store: Store, run_id: str) -> list[Point]:
    """Every logged step of a run that has a loss, in order; of a step that two attempts made, the later one's."""
    folder = store.folder(run_id) / "attempts"
    if folder.is_symlink() or folder.parent.is_symlink():
        return []
    stale = [int(path.name[:4]) for path in folder.glob("[0-9][0-9][0-9][0-9].stale.json")]
    by_step: dict[int, Point] = {}
    for path in sorted(folder.glob("[0-9][0-9][0-9][0-9].jsonl")):
        if int(path.stem) > max(stale, default=0) and not path.is_symlink():
            by_step |= {int(point["step"] or 0): point for point in _logged(path)}
    return [by_step[step] for step in sorted(by_step)]


def thinned(points: Sequence[Point], *, limit: int = POINTS) -> list[Point]:
    """At most `limit` of the points: the first, the last, where the loss rose most, and others evenly in steps.

    Args:
        points: in the order of their steps.
        limit: at least 2; a curve that is no longer is left as it is.
    """
    if len(points) <= limit:
        return list(points)
    chosen = set(_spikes(points, min(SPIKES, limit // 4)))
    steps = [int(point["step"] or 0) for point in points]
    even = limit - len(chosen)
    for k in range(even):
        chosen.add(_nearest(steps, steps[0] + (steps[-1] - steps[0]) * k / (even - 1)))
    return [points[at] for at in sorted(chosen)]


def _spikes(points: Sequence[Point], count: int) -> list[int]:
    """Where the loss rose most over the point before, at most `count` places."""
    losses = [float(point["loss"] or 0.0) for point in points]
    rises = {at: losses[at] - losses[at - 1] for at in range(1, len(losses))}
    places = [at for at, rise in rises.items() if rise > SPIKE_RISE_NATS]
    return sorted(places, key=lambda at: (-rises[at], at))[:count]


def _nearest(steps: Sequence[int], target: float) -> int:
    """The place of the step nearest to `target`, the earlier one of two."""
    after = min(bisect.bisect_left(steps, target), len(steps) - 1)
    return after - 1 if after and target - steps[after - 1] <= steps[after] - target else after


def _logged(path: Path) -> Iterator[Point]:
    """The points of one attempt's log; a line that a crash has cut is left out."""
    try:
        lines = read_regular(path).split(b"\n")
    except OSError:  # a pipe in its place, or its rights
        return
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(record, dict) or not all(isinstance(record.get(name), int) for name in COUNTS):
            continue
        values = {name: _number(record.get(_IN_LOG.get(name, name))) for name in VALUES}
        if values["loss"] is not None:
            yield {name: record[name] for name in COUNTS} | values


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
