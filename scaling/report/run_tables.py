"""The tables of runs: data points, tuned cells, and the runs that are no data points."""

from __future__ import annotations

from scaling.analysis.study import Study
from scaling.quantity import format_duration
from scaling.report.table import Column, Significant, Table, compute_text, fixed

_LINE = Column("line", "line")
_N = Significant(3)


def cells_table(study: Study) -> Table:
    """Every data point."""
    rows = []
    for line in study.lines:
        for cell in line.cells:
            row = cell.row
            seconds = sum(r.device_seconds or 0.0 for r in cell.rows) or None
            rows.append(
                (
                    line.name,
                    cell.budget,
                    cell.shape,
                    cell.params,
                    row.params_total,
                    cell.tokens,
                    row.steps,
                    row.lr,
                    len(cell.rows),
                    cell.loss,
                    row.loss_se,
                    seconds,
                )
            )
    columns = (
        _LINE,
        Column("budget", "budget", compute_text),
        Column("shape", "shape"),
        Column("n", "N", _N),
        Column("params_total", "params_total", _N),
        Column("tokens", "D", _N),
        Column("steps", "steps", fixed(0)),
        Column("lr", "rate", _N),
        Column("seeds", "seeds", fixed(0)),
        Column("loss_nats", "loss", fixed(4)),
        Column("loss_se_nats", "± validation", fixed(4)),
        Column("device_seconds", "device time", format_duration),
    )
    note = "Loss is the mean over seeds; ± is the standard error over validation windows of one run."
    return Table("cells", "Data points", columns, tuple(rows), note)


def selection_table(study: Study) -> Table:
    """The setting kept in every tuned cell, and its selection bias."""
    rows = []
    for line in study.lines:
        cells = {f"{cell.line} {cell.label}": cell for cell in line.cells}
        for choice in line.choices:
            cell = cells[choice.cell]
            kept = "bottom of a parabola" if choice.parabola else "the winner's mean"
            place = (line.name, cell.budget, cell.shape, cell.params, choice.setting)
            tried = (choice.settings, choice.contenders if choice.noise_nats else None)
            edge = {True: "yes", False: "no", None: "cannot tell"}[choice.at_edge]
            rows.append((*place, *tried, kept, choice.loss, choice.bias_nats, edge))
    columns = (
        _LINE,
        Column("budget", "budget", compute_text),
        Column("shape", "shape"),
        Column("n", "N", _N),
        Column("setting", "chosen"),
        Column("settings", "tried", fixed(0)),
        Column("contenders", "within 2σ", fixed(0)),
        Column("kept", "loss is"),
        Column("loss_nats", "loss", fixed(4)),
        Column("bias_nats", "too low by about", fixed(4)),
        Column("at_edge", "at the edge"),
    )
    note = (
        "One setting per cell, by its mean over the seeds all settings have. Choosing the best of several near-equal "
        "settings makes a loss too low; how much follows from the seed noise and from how far apart the settings are. "
        "Losses are shown as measured; intervals include it, because every draw chooses again."
    )
    return Table("selection", "Tuned cells", columns, tuple(rows), note)


def dropped_table(study: Study) -> Table:
    """Runs that are no data points, and why."""
    rows = tuple((item.run, item.line, item.reason) for item in study.dropped)
    return Table(
        "dropped", "Runs that are no data points", (Column("run", "run"), _LINE, Column("reason", "why")), rows
    )
