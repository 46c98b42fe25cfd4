"""The named tables of a study. Losses are nats per token, intervals 95 %, N in the study's convention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scaling.analysis.predictions import predict
from scaling.analysis.serving import serving
from scaling.analysis.study import Study
from scaling.inference.serving_comparison import ServingRow
from scaling.laws.comparison import AXES
from scaling.quantity import format_duration, format_number
from scaling.report.rate_tables import RATE_TABLES
from scaling.report.table import Column, Table, difference_columns, fixed, significant

_LINE = Column("line", "line")
_N, _LOSS = significant(3), fixed(3)


def compute_text(value: Any) -> str:
    """FLOPs as the field writes them: ``2.0e11``; small numbers (seconds) in short form."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if value >= 1e5 else format_number(value)


def delta_text(delta: float | None) -> str:
    """``, δ 1e-3``; nothing for an objective without a width."""
    return f", δ {delta:.0e}".replace("e-0", "e-") if delta else ""


def differences_table(study: Study) -> Table:
    """Every line against the reference, at every common budget and on the other axes."""
    rows = [
        (
            d.line,
            d.reference,
            AXES[d.verdict.axis],
            d.verdict.cost,
            d.verdict.difference_nats,
            d.verdict.interval,
            d.verdict.sigmas,
            d.verdict.word,
            f"{d.method}, paired draws" if d.verdict.paired else d.method,
        )
        for comparison in study.comparisons
        for d in (*comparison.by_budget, *comparison.other_axes)
    ]
    columns = (
        _LINE,
        Column("reference", "against"),
        Column("axis", "held equal"),
        Column("cost", "at", compute_text),
        *difference_columns("loss difference"),
        Column("verdict", "verdict"),
        Column("method", "from"),
    )
    note = (
        "Negative: the line is better than the reference. σ is the seed noise; a verdict takes an interval without "
        "zero and a difference above 2σ."
    )
    return Table("differences", "Loss at equal cost", columns, tuple(rows), note)


def minima_table(study: Study) -> Table:
    """Approach 2: the minimum of every budget."""
    rows = [
        (
            line.name,
            m.budget,
            m.points,
            m.params if m.bracketed else None,
            m.params_interval if m.bracketed else None,
            m.tokens if m.bracketed else None,
            m.tokens / m.params if m.bracketed else None,
            m.loss if m.bracketed else None,
            m.loss_interval if m.bracketed else None,
            "yes" if m.bracketed else f"no: {m.reason}",
        )
        for line in study.lines
        for m in (line.isoflop.minima if line.isoflop else ())
    ]
    columns = (
        _LINE,
        Column("budget", "budget", compute_text),
        Column("points", "points", fixed(0)),
        Column("n_opt", "N_opt", _N),
        Column("n_opt_interval", "95 %", _N),
        Column("d_opt", "D_opt", _N),
        Column("tokens_per_param", "D/N", fixed(1)),
        Column("loss_nats", "loss", _LOSS),
        Column("loss_interval", "95 %", _LOSS),
        Column("bracketed", "bracketed"),
    )
    return Table("minima", "IsoFLOP minima (approach 2)", columns, tuple(rows))


def fits_table(study: Study) -> Table:
    """Approach 3: the parameters of every line that has a law."""
    names = list(dict.fromkeys(name for line in study.lines if line.law for name in line.law.fit.parameters))
    rows = []
    for line in study.lines:
        law = line.law
        values: list[Any] = [None] * (2 * len(names))
        if law is not None:
            intervals = law.intervals
            values = [v for name in names for v in (law.fit.parameters.get(name), intervals.get(name))]
        status = "no law" if law is None else law.fit.status
        objective = None if law is None else law.fit.objective_value
        rows.append((line.name, len(line.points), *values, objective, status))
    pairs = [(Column(name, name, _N), Column(f"{name}_interval", "95 %", _N)) for name in names]
    columns = (
        _LINE,
        Column("points", "points", fixed(0)),
        *(column for pair in pairs for column in pair),
        Column("objective_value", "objective", significant(4)),
        Column("status", "status"),
    )
    settings = study.settings
    made = next((line.law.fit for line in study.lines if line.law), None)
    how = f"{settings.line_law}, {settings.objective}{delta_text(made.delta if made else None)}, summed"
    note = (
        f"N is {settings.params_column}, C counts {AXES[study.convention]}. E is the loss no size and no data undercut."
    )
    refused = [f"{line.name}: {line.refused}." for line in study.lines if line.law is None]
    formula = f"{made.form.formula}; " if made else ""
    return Table(
        "fits", f"Law of each line (approach 3): {formula}{how}", columns, tuple(rows), " ".join([note, *refused])
    )


def together_table(study: Study) -> Table:
    """The law over all lines, parameter by parameter; empty where the settings ask for none."""
    rows: list[tuple[Any, ...]] = []
    title = "Law over all lines"
    if study.together is not None:
        made, draws = study.together
        intervals = draws.intervals() if draws else {}
        rows = [(name, value, intervals.get(name)) for name, value in made.parameters.items()]
        title = f"Law over all lines: {made.form.formula}"
    columns = (Column("parameter", "parameter"), Column("value", "value", _N), Column("interval", "95 %", _N))
    return Table("together", title, columns, tuple(rows))


def exponents_table(study: Study) -> Table:
    """N_opt ∝ C^a by every approach and objective, so that what is choice can be seen beside what is data."""
    rows: list[tuple[Any, ...]] = []
    for line in study.lines:
        if line.law is None:
            continue
        law = line.law
        made = f"{law.fit.law}, {law.fit.objective}{delta_text(law.fit.delta)}"
        rows.append((line.name, "3", made, *_exponents(law.fit.exponents, law.exponent_intervals)))
        if law.isoflop and law.isoflop.exponents:
            found = _exponents(law.isoflop.exponents, law.isoflop.exponent_intervals)
            rows.append((line.name, "2", law.isoflop.curve, *found))
        if law.envelope:
            found = _exponents(law.envelope.exponents, law.envelope.exponent_intervals)
            rows.append((line.name, "1", "lower envelope", *found))
        for choice in law.sensitivity:
            if (choice.objective, choice.delta) != (law.fit.objective, law.fit.delta):
                named = f"{law.fit.law}, {choice.objective}{delta_text(choice.delta)}"
                rows.append((line.name, "3", named, *_exponents(choice.exponents, {})))
    columns = (
        _LINE,
        Column("approach", "approach"),
        Column("how", "how"),
        Column("a", "N_opt ∝ C^", fixed(3)),
        Column("a_interval", "95 %", fixed(3)),
        Column("b", "D_opt ∝ C^", fixed(3)),
        Column("b_interval", "95 %", fixed(3)),
    )
    note = "Approach 3's exponents are the closed form under C ∝ N·D; approach 2 is biased even without noise."
    return Table("exponents", "Exponents", columns, tuple(rows), note)


def predictions_table(study: Study) -> Table:
    """The compute-optimal model of every line at each compute, with interval and form range."""
    rows: list[tuple[Any, ...]] = []
    for target in study.settings.predict:
        for line in study.lines:
            made = predict(line, target)
            if made.optimum is None:
                continue
            best, intervals, ranges = made.optimum, made.optimum.intervals, made.form_range
            numbers = (("N", best.params), ("D", best.tokens), ("loss", best.loss))
            cells = [cell for name, value in numbers for cell in (value, intervals.get(name), ranges.get(name))]
            rows.append((target, line.name, *cells))
    columns = [Column("compute", "C", compute_text), _LINE]
    for name, title, show in (("n_opt", "N_opt", _N), ("d_opt", "D_opt", _N), ("loss_nats", "loss", _LOSS)):
        columns += [Column(name, title, show), Column(f"{name}_interval", "95 %", show)]
        columns += [Column(f"{name}_form_range", "form range", show)]
    note = (
        "The 95 % interval is of the noise under one form; the form range is min to max over forms and objectives (for "
        "N and D over approach 2 too), and far from the data it is the larger error."
    )
    return Table("predictions", "Predictions", tuple(columns), tuple(rows), note)


def audit_table(study: Study) -> Table:
    """How well each law predicted its largest budget from the others."""
    rows = []
    for line in study.lines:
        holdout = line.law.holdout if line.law else None
        if holdout is not None:
            inside, best = holdout.share_inside, holdout.optimum
            rows.append(
                (
                    line.name,
                    holdout.budget,
                    len(holdout.runs),
                    holdout.rms_nats,
                    holdout.line_rms_nats,
                    100 * inside,
                    best.error_nats if best else None,
                )
            )
    columns = (
        _LINE,
        Column("held_out_budget", "held out", compute_text),
        Column("runs", "runs", fixed(0)),
        Column("rms_nats", "law's error (rms)", fixed(4)),
        Column("line_rms_nats", "log-log plane's", fixed(4)),
        Column("inside_percent", "in 95 % prediction interval", fixed(0)),
        Column("optimum_error_nats", "error at the optimum", fixed(4, sign=True)),
    )
    note = "Nats; observed minus predicted. The percentage of held-out runs inside should be near 95."
    return Table("audit", "Audit: the largest budget predicted from the others", columns, tuple(rows), note)


def serving_table(study: Study) -> Table:
    """Serving cost at equal loss; batch 1."""
    rows = tuple(
        _serving_row(comparison.target_loss, row)
        for comparison in serving(study).comparisons
        for row in comparison.rows
        if row.setting.batch == 1 and row.choice.kind != "lifetime"
    )
    columns = (
        Column("target_loss", "loss", _LOSS),
        _LINE,
        Column("choice", "model"),
        Column("form", "served as"),
        Column("device", "device"),
        Column("n", "N", _N),
        Column("training_flops", "training C", compute_text),
        Column("decode_flops_per_token", "decode FLOPs", _N),
        Column("decode_flops_ratio", "× reference", fixed(2)),
        Column("weight_bytes", "weight bytes", _N),
        Column("kv_bytes_per_token", "cache bytes/token", _N),
        Column("kv_share", "cache share of bytes", fixed(2)),
        Column("decode_seconds_ratio", "time × reference", fixed(2)),
        Column("nearest_shape", "nearest shape"),
    )
    calibrated = all(row.setting.calibrated for c in serving(study).comparisons for row in c.rows)
    note = f"Batch 1. × reference: relative to {study.reference.name} under the same choice and device."
    if not calibrated:
        note += " Uncalibrated: kernel launches are free in these times, which flatters factorized models."
    return Table("serving", "Inference cost at equal loss", columns, rows, note)


def cells_table(study: Study) -> Table:
    """Every data point."""
    rows = []
    for line in study.lines:
        for cell in line.cells:
            row = cell.row
            seconds = sum(r.get("device_seconds") or 0.0 for r in cell.rows) or None
            rows.append(
                (
                    line.name,
                    cell.budget,
                    cell.shape,
                    cell.params,
                    row.get("params_total"),
                    cell.tokens,
                    row.get("steps"),
                    row.get("lr"),
                    len(cell.rows),
                    cell.loss,
                    row.get("loss_se"),
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
    """What was kept of every tuned cell, and what choosing cost."""
    rows = []
    for line in study.lines:
        cells = {f"{cell.line} {cell.label}": cell for cell in line.cells}
        for choice in line.choices:
            cell = cells[choice.cell]
            kept = "bottom of a parabola" if choice.parabola else "the winner's mean"
            place = (line.name, cell.budget, cell.shape, cell.params, choice.setting)
            tried = (choice.settings, choice.contenders if choice.noise_nats else None)
            edge = "yes" if choice.at_edge else "no"
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


TABLES: dict[str, Callable[[Study], Table]] = {
    "differences": differences_table,
    **RATE_TABLES,
    "minima": minima_table,
    "fits": fits_table,
    "together": together_table,
    "exponents": exponents_table,
    "predictions": predictions_table,
    "audit": audit_table,
    "serving": serving_table,
    "selection": selection_table,
    "cells": cells_table,
    "dropped": dropped_table,
}


def study_tables(study: Study) -> list[Table]:
    """Every table that has a row."""
    return [table for make in TABLES.values() if (table := make(study)).rows]


def _exponents(values: dict[str, float], intervals: Any) -> tuple[Any, ...]:
    return values.get("N"), intervals.get("N"), values.get("D"), intervals.get("D")


def _serving_row(target: float, row: ServingRow) -> tuple[Any, ...]:
    model, multiple = row.model, row.choice.budget_multiple
    choice = "cheapest to train" if multiple is None else f"smallest at {multiple:g}× training"
    return (
        target,
        row.line,
        choice,
        row.form,
        row.setting.device.name,
        model and model.trained.params,
        model and model.trained.flops,
        model and model.prices.decode_flops_per_token,
        row.ratios.decode_flops_per_token,
        model and model.prices.weight_bytes,
        model and model.prices.kv_bytes_per_token,
        model and model.kv_share,
        row.ratios.decode_seconds,
        model and model.nearest.name,
    )
