"""Every run of the page's sortable table, with its training curve where the results folder has `curves.csv`."""

from __future__ import annotations

import json
from pathlib import Path

from scaling.analysis.study import Study
from scaling.report.table import Column, Significant, Table, compute_text, fixed
from scaling.results.curves import NAME, Point, read_curves

CURVE_POINTS = 60  # of one run that a page holds: a page of 160 runs stays below half a megabyte of curves
CURVES = 400  # runs with a curve on the page


def runs_table(study: Study, limit: int | None = None) -> Table:
    """One row a run that is a data point, the first `limit` of them."""
    every = tuple(
        (
            row.id,
            line.name,
            cell.budget,
            cell.shape,
            cell.params,
            cell.tokens,
            row.seed,
            row.loss,
            row.lr,
            row.steps,
            row.device_seconds,
            row.loss_spikes,
        )
        for line in study.lines
        for cell in line.cells
        for row in cell.rows
    )
    columns = (
        Column("run", "run"),
        Column("line", "line"),
        Column("budget", "budget", compute_text),
        Column("shape", "shape"),
        Column("n", "N", Significant(3)),
        Column("tokens", "D", Significant(3)),
        Column("seed", "seed"),
        Column("loss_nats", "loss", fixed(4)),
        Column("lr", "rate", Significant(3)),
        Column("steps", "steps", fixed(0)),
        Column("device_seconds", "seconds", Significant(3)),
        Column("loss_spikes", "spikes", fixed(0)),
    )
    rows = every if limit is None else every[:limit]
    cut = f"The first {len(rows):,} of {len(every):,} runs; runs.csv has all. " if len(rows) < len(every) else ""
    note = f"{cut}A click on a heading sorts; a click on a run draws its training curve, where there is a curves.csv."
    return Table("runs", "Runs", columns, rows, note)


def curves_json(study: Study, folder: Path) -> str:
    """Run id -> [tokens], [losses] of its curve, thinned, as JSON for a page; `{}` without curves.csv.

    Raises:
        DataError: curves.csv is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return "{}"
    known = [row.id for cell in study.cells for row in cell.rows][:CURVES]
    curves = read_curves(path)
    thinned = {name: _thinned(curves[name]) for name in known if name in curves}
    return json.dumps(thinned, separators=(",", ":")).replace("<", "\\u003c")  # no id ends the page's script


def _thinned(points: list[Point]) -> list[list[float]]:
    step = max(1, -(-len(points) // CURVE_POINTS))
    kept = [*points[:-1:step], points[-1]]
    return [[float(p["tokens"] or 0) for p in kept], [round(float(p["loss"] or 0.0), 4) for p in kept]]
