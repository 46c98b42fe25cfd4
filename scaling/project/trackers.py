"""Training curves for the trackers that people use, made from the store after the fact; nothing is sent anywhere.

<out>/curves.csv                     --to csv: every logged step of every finished run
<out>/<line>/<cell>/seed-<n>/        --to tensorboard: event files
<out>/wandb/offline-run-*            --to wandb: `wandb sync` sends them
<out>/                               --to trackio: its local database (TRACKIO_DIR)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scaling.errors import ScalingError
from scaling.packages import require
from scaling.project.opened import OpenSweep
from scaling.results.curves import VALUES, Point, curve, write_curves
from scaling.results.records_file import FINISHED
from scaling.results.status import RunStatus
from scaling.results.store import Store

Curve = tuple[RunStatus, list[Point]]


def export_curves(opened: OpenSweep, tracker: str, out: Path, run: str | None = None) -> int:
    """Write the training curves of every finished run, or of one, for `tracker` into `out`; how many runs.

    Raises:
        ScalingError: no such tracker, its package is missing, or no run is finished.
    """
    if tracker != "csv" and tracker not in TRACKERS:
        raise ScalingError("no such tracker", got=tracker, allowed=", ".join(("csv", *TRACKERS)))
    launch = opened.current_launch()
    store = Store(Path(launch.store))
    only = None if run is None else opened.find(launch, run).id
    runs = [one for one in opened.statuses(launch) if one.status in FINISHED and only in (None, one.row.id)]
    if not runs:
        raise ScalingError("no run is finished", where=str(opened.path), hint=f"scaling status {opened.path}")
    out.mkdir(parents=True, exist_ok=True)
    if tracker == "csv":
        write_curves(out, runs, store, limit=None)
    else:
        TRACKERS[tracker](opened.name, [(one, curve(store, one.row.id)) for one in runs], out)
    return len(runs)


def _tensorboard(sweep: str, curves: Sequence[Curve], out: Path) -> None:
    require("tensorboard", "scaling export --to tensorboard")
    from tensorboard.summary import Writer

    for run, points in curves:
        writer = Writer(str(out / str(run.row.cell) / f"seed-{run.row.seed}"))
        for step, values in _steps(points):
            for name, value in values.items():
                writer.add_scalar(name, value, step)
        writer.close()


def _wandb(sweep: str, curves: Sequence[Curve], out: Path) -> None:
    require("wandb", "scaling export --to wandb")
    import wandb

    for run, points in curves:
        named = {"project": sweep, "name": _name(run), "group": run.row.line, "config": _config(run)}
        with wandb.init(mode="offline", dir=str(out), **named) as tracked:
            for step, values in _steps(points):
                tracked.log(values, step=step)


def _trackio(sweep: str, curves: Sequence[Curve], out: Path) -> None:
    require("trackio", "scaling export --to trackio")
    os.environ["TRACKIO_DIR"] = str(out.resolve())  # read when the package is imported
    import trackio

    for run, points in curves:
        trackio.init(project=sweep, name=_name(run), config=_config(run), embed=False)
        for step, values in _steps(points):
            trackio.log(values, step=step)
        trackio.finish()


TRACKERS: dict[str, Callable[[str, Sequence[Curve], Path], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}


def _steps(points: Sequence[Point]) -> Iterator[tuple[int, dict[str, float]]]:
    """Step, and what was measured at it; tokens among it."""
    for point in points:
        values = {name: float(value) for name in ("tokens", *VALUES) if (value := point[name]) is not None}
        yield int(point["step"] or 0), values


def _name(run: RunStatus) -> str:
    return f"{run.row.cell}/seed={run.row.seed}"


def _config(run: RunStatus) -> dict[str, Any]:
    row = run.row
    counts = {"params_total": row.params_total, "tokens": row.tokens, "flops": row.flops}
    return {"id": row.id, "line": row.line, "seed": row.seed, "lr": row.lr} | counts
